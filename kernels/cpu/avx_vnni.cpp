// flags: -mavx2 -mfma -mf16c -mavxvnni
#define OVGEN_DPBUSD _mm256_dpbusd_avx_epi32
#define OVGEN_KERNELS avx_vnni_kernels
#include "vnni.inl"
