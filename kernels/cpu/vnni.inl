// What AVX-VNNI and AVX512-VNNI have in common; the including source defines `multiply_add`, which adds to each lane
// four products of an unsigned and a signed byte.

namespace ovgen {
namespace {

struct Set : X86 {
    static Ints dot(const Weights<4>& w, const int8_t* a, Ints sum) {
        for (int i = 0; i < 8; i++) sum = multiply_add(sum, w.codes[i], four(a + 4 * i));
        return sum;
    }

    static Ints dot(const Weights<8>& w, const int8_t* a, Ints sum) {
        for (int i = 0; i < 4; i++) {
            sum = multiply_add(sum, w.magnitudes[i], _mm256_sign_epi8(four(a + 4 * i), w.codes[i]));
        }
        return sum;
    }
};

#include "activations.inl"
#include "kernel.inl"

constexpr Kernels kKernels{quantise, multiply};

}  // namespace
}  // namespace ovgen
