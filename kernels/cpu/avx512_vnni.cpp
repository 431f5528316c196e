// flags: -mavx2 -mfma -mf16c -mavx512f -mavx512vl -mavx512vnni -mprefer-vector-width=256
#define OVGEN_DPBUSD _mm256_dpbusd_epi32
#define OVGEN_KERNELS avx512_vnni_kernels
#include "vnni.inl"
