// flags: -mavx2 -mfma -mf16c -mavx512f -mavx512vl -mavx512vnni -mprefer-vector-width=256
#include "x86.inl"

namespace ovgen {
namespace {

inline __m256i multiply_add(__m256i sum, __m256i a, __m256i b) { return _mm256_dpbusd_epi32(sum, a, b); }

}  // namespace
}  // namespace ovgen

#include "vnni.inl"

namespace ovgen {

const Kernels* avx512_vnni_kernels() { return &kKernels; }

}  // namespace ovgen
