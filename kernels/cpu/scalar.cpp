// For every CPU, and what the others are compared with.
#include <cstring>

#include "half.h"
#include "kernels.h"

namespace ovgen {
namespace {

struct Set {
    struct Ints {
        int32_t lane[kPanel];
    };
    struct Floats {
        float lane[kPanel];
    };
    template <int Bits>
    struct Weights;

    template <class F>
    static Floats each(F value) {
        Floats y;
        for (int row = 0; row < kPanel; row++) y.lane[row] = value(row);
        return y;
    }
    static Ints no_ints() { return {}; }
    static Floats floats(float value) {
        return each([&](int) { return value; });
    }
    static Floats floats(const Ints& values) {
        return each([&](int row) { return static_cast<float>(values.lane[row]); });
    }
    static Floats halves(const uint16_t* at) {
        return each([&](int row) { return half_to_float(at[row]); });
    }
    static Floats sum(const Floats& a, const Floats& b) {
        return each([&](int row) { return a.lane[row] + b.lane[row]; });
    }
    static Floats product(const Floats& a, const Floats& b) {
        return each([&](int row) { return a.lane[row] * b.lane[row]; });
    }
    static Floats add_product(const Floats& y, const Floats& a, const Floats& b) {
        return each([&](int row) { return y.lane[row] + a.lane[row] * b.lane[row]; });
    }
    static Floats subtract_product(const Floats& y, const Floats& a, const Floats& b) {
        return each([&](int row) { return y.lane[row] - a.lane[row] * b.lane[row]; });
    }
    static Ints larger_magnitudes(Ints tops, const float* x) {
        for (int i = 0; i < kPanel; i++) {
            int32_t bits;
            std::memcpy(&bits, x + i, 4);
            const int32_t magnitude = bits & 0x7fffffff;
            tops.lane[i] = magnitude > tops.lane[i] ? magnitude : tops.lane[i];
        }
        return tops;
    }
    static int32_t largest(const Ints& values) {
        int32_t y = values.lane[0];
        for (int32_t value : values.lane) y = value > y ? value : y;
        return y;
    }
    static int32_t total(const Ints& values) {
        int32_t y = 0;
        for (int32_t value : values.lane) y += value;
        return y;
    }
    static Ints quantise_block(const float* x, float inverse, int8_t* codes, Ints totals) {
        const float shifter = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
        for (int i = 0; i < kBlock; i++) {
            const int32_t code = static_cast<int32_t>((x[i] * inverse + shifter) - shifter);
            totals.lane[i % kPanel] += code;
            codes[i] = static_cast<int8_t>(code);
        }
        return totals;
    }
    static void store(float* at, const Floats& values) { std::memcpy(at, values.lane, sizeof values.lane); }

    template <int Bits>
    static Ints dot(const Weights<Bits>& w, const int8_t* a, Ints sum) {
        for (int column = 0; column < w.kColumns; column++) {
            for (int row = 0; row < kPanel; row++) sum.lane[row] += w.codes[column][row] * a[column];
        }
        return sum;
    }
};

template <>
struct Set::Weights<4> {
    static constexpr int64_t kColumns = 8;
    explicit Weights(const uint8_t* at) {
        for (int column = 0; column < kColumns; column++) {
            for (int row = 0; row < kPanel; row++) {
                const uint8_t both = at[4 * row + column % 4];
                codes[column][row] = column < 4 ? both & 15 : both >> 4;
            }
        }
    }
    int16_t codes[kColumns][kPanel];
};

template <>
struct Set::Weights<8> {
    static constexpr int64_t kColumns = 4;
    explicit Weights(const uint8_t* at) {
        for (int column = 0; column < kColumns; column++) {
            for (int row = 0; row < kPanel; row++) codes[column][row] = static_cast<int8_t>(at[4 * row + column]);
        }
    }
    int16_t codes[kColumns][kPanel];
};

#include "activations.inl"
#include "panels.inl"
#include "codes.inl"

// Plainly, what floats.inl does.
inline Set::Floats numbers(int32_t format, const uint8_t* panel, int64_t column) {
    const auto* halves = reinterpret_cast<const uint16_t*>(panel);
    const auto* singles = reinterpret_cast<const float*>(panel);
    return Set::each([&](int row) {
        const int64_t at = place_of(format, column, row);
        if (format == kFloat32) return singles[at];
        return format == kFloat16 ? half_to_float(halves[at]) : brain_half_to_float(halves[at]);
    });
}

void multiply_floats(const OvgenShape& shape, const Layout& layout, const uint8_t* packed, const float* x,
                     int64_t tokens, int64_t begin, int64_t end, float* const* outputs) {
    const auto some = [&](int64_t index, int64_t count, float* sums) {
        for (int64_t i = 0; i < count; i++) {
            const uint8_t* panel = packed + (index + i) * layout.panel_bytes;
            for (int64_t m = 0; m < tokens; m++, sums += kPanel) {
                Set::Floats y = Set::floats(0.0f);
                for (int64_t column = 0; column < shape.columns; column++) {
                    const Set::Floats a = Set::floats(x[m * shape.columns + column]);
                    y = Set::add_product(y, numbers(shape.format, panel, column), a);
                }
                Set::store(sums, y);
            }
        }
    };
    for_panels<kFloatTile>(shape, layout, packed, tokens, begin, end, outputs, some);
}

constexpr Kernels kKernels{quantise, multiply, multiply_floats};

}  // namespace

const Kernels* scalar_kernels() { return &kKernels; }

}  // namespace ovgen
