// flags: -mavx2 -mfma -mf16c -mavxvnni
#include "x86.inl"

namespace ovgen {
namespace {

#ifdef OVGEN_EMULATE_VNNI  // for tests on CPUs without it
inline __m256i multiply_add(__m256i sum, __m256i a, __m256i b) {
    alignas(32) uint8_t u[32];
    alignas(32) int8_t s[32];
    alignas(32) int32_t y[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(u), a);
    _mm256_store_si256(reinterpret_cast<__m256i*>(s), b);
    _mm256_store_si256(reinterpret_cast<__m256i*>(y), sum);
    for (int i = 0; i < 32; i++) y[i / 4] += u[i] * s[i];
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(y));
}
#else
inline __m256i multiply_add(__m256i sum, __m256i a, __m256i b) { return _mm256_dpbusd_avx_epi32(sum, a, b); }
#endif

}  // namespace
}  // namespace ovgen

#include "vnni.inl"

namespace ovgen {

const Kernels* avx_vnni_kernels() { return &kKernels; }

}  // namespace ovgen
