// Calls the kernels with random shapes, for `scripts/sanitize_kernels`. All memory is taken from the heap in its exact
// size, so that a byte too far is seen. Whether results are right is the matter of the other tests.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <map>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "api.h"

namespace {

std::mt19937_64 generator;
std::map<std::string, int> covered;  // how often

int64_t pick(int64_t least, int64_t most) { return std::uniform_int_distribution<int64_t>(least, most)(generator); }

template <class T, size_t N>
T pick(const T (&choices)[N]) {
    return choices[pick(0, N - 1)];
}

template <class T>
std::vector<T> random_bits(int64_t count) {
    std::vector<T> numbers(count);
    for (T& number : numbers) number = static_cast<T>(generator());
    return numbers;
}

std::vector<float> random_floats(int64_t count) {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    const float spice = pick({0.0f, 1e-40f, 1e-36f, 1.0f, 1e30f, 3e38f, infinity, -infinity, std::nanf("")});
    std::vector<float> numbers(count);
    std::normal_distribution<float> normal;
    for (float& number : numbers) number = pick(0, 50) ? normal(generator) : spice;
    return numbers;
}

OvgenShape random_shape() {
    OvgenShape shape{};
    shape.format = pick({ovgen::kInt4, ovgen::kInt8, ovgen::kFloat16, ovgen::kBfloat16, ovgen::kFloat32});
    shape.group = pick({1, 8, 20, 31, 32, 33, 37, 64, 100, 128, 129, 160, 256, 300});
    shape.columns = shape.group * pick(1, 4);
    if (shape.format == ovgen::kInt4 && shape.columns % 2) shape.columns *= 2;
    if (!ovgen::has_codes(shape)) shape.group = shape.columns;
    shape.gated = pick(0, 3) == 0;
    const int64_t projections = shape.gated ? 2 : pick(1, ovgen::kMostProjections);
    for (int64_t i = 0; i < projections; i++) shape.rows[i] = shape.gated && i ? shape.rows[0] : pick(1, 100);
    shape.zero_points = ovgen::has_codes(shape) && pick(0, 1);
    shape.bias = static_cast<int32_t>(pick(0, 1));
    shape.activation = static_cast<int32_t>(pick(ovgen::kNone, ovgen::kSilu));
    return shape;
}

struct Free {
    void operator()(uint8_t* memory) const { ::operator delete[](memory, std::align_val_t(64)); }
};
using Packed = std::unique_ptr<uint8_t[], Free>;

void pack_floats(const OvgenShape& shape, int32_t i, const Packed& packed) {
    const int64_t size = ovgen::bits_of(shape.format) / 8;
    const auto numbers = random_bits<uint8_t>(shape.rows[i] * shape.columns * size);
    const auto bias = random_floats(shape.rows[i]);
    const bool by_rows = pick(0, 1);
    ovgen_pack_floats(&shape, i, numbers.data(), by_rows ? shape.columns * size : size,
                      by_rows ? size : shape.rows[i] * size, shape.bias ? bias.data() : nullptr, packed.get());
    covered[std::string("floats by ") + (by_rows ? "rows" : "columns")]++;
}

Packed pack(const OvgenShape& shape) {
    const int64_t size = ovgen_packed_bytes(&shape);
    Packed packed(new (std::align_val_t(64)) uint8_t[size]());
    for (int32_t i = 0; i < ovgen::kMostProjections && shape.rows[i]; i++) {
        if (!ovgen::has_codes(shape)) {
            pack_floats(shape, i, packed);
            continue;
        }
        const int64_t numbers = shape.rows[i] * (shape.columns / shape.group);
        const int32_t dtype = static_cast<int32_t>(shape.format == ovgen::kInt4 ? pick(2, 3) : pick(0, 1));
        const auto codes = random_bits<uint8_t>(shape.rows[i] * shape.columns * ovgen::bits_of(shape.format) / 8);
        auto scale = random_bits<uint16_t>(numbers), zero_f16 = random_bits<uint16_t>(numbers);
        for (uint16_t& half : scale) half &= 0xbfff;  // below 2
        for (uint16_t& half : zero_f16) half &= 0xdbff;  // below 256
        const auto zero_u8 = random_bits<uint8_t>(numbers);
        const auto bias = random_floats(shape.rows[i]);
        const int64_t kind = shape.zero_points ? pick(0, 2) : 0;
        ovgen_pack(&shape, i, codes.data(), dtype, scale.data(), kind == 1 ? zero_u8.data() : nullptr,
                   kind == 2 ? zero_f16.data() : nullptr, shape.bias ? bias.data() : nullptr, packed.get());
        covered[std::string("codes ") + std::vector<std::string>{"u8", "i8", "u4", "i4"}[dtype]]++;
        covered[std::string("zero points ") + std::vector<std::string>{"none", "u8", "f16"}[kind]]++;
    }
    return packed;
}

void multiply(const OvgenShape& shape, const Packed& packed) {
    const int64_t tokens = pick({1, 2, 3, 4, 5, 8, 16, 17, 31, 32, 33, 64, 70});
    const int32_t threads = static_cast<int32_t>(pick(0, 3));
    const auto x = random_floats(tokens * shape.columns);
    for (int32_t set = 0; ovgen_instruction_set_name(set); set++) {
        if (!(ovgen_instruction_sets() >> set & 1)) continue;
        std::vector<std::vector<float>> outputs;
        float* pointers[ovgen::kMostProjections] = {};
        for (int64_t i = 0; i < (shape.gated ? 1 : ovgen::kMostProjections) && shape.rows[i]; i++) {
            outputs.emplace_back(tokens * shape.rows[i]);
            pointers[i] = outputs.back().data();
        }
        ovgen_linear(set, &shape, packed.get(), x.data(), tokens, pointers, threads);
        covered[std::string("set ") + ovgen_instruction_set_name(set)]++;
    }
    covered["tokens " + std::to_string(tokens)]++;
    covered["threads " + std::to_string(threads)]++;
}

void look_up(const OvgenShape& shape, const Packed& packed) {
    std::vector<int64_t> ids(pick(1, 20));
    for (int64_t& id : ids) id = pick(-2 * shape.rows[0], 2 * shape.rows[0]);
    std::vector<float> out(ids.size() * shape.columns);
    ovgen_embedding(&shape, packed.get(), ids.data(), static_cast<int64_t>(ids.size()), out.data());
}

}  // namespace

int main(int, char** arguments) {
    const int cases = std::atoi(arguments[1]);
    for (int i = 0; i < cases; i++) {
        generator.seed(i);
        const OvgenShape shape = random_shape();
        const Packed packed = pack(shape);
        multiply(shape, packed);
        look_up(shape, packed);
        covered["activation " + std::to_string(shape.activation) + (shape.gated ? ", gated" : "")]++;
        covered["format " + std::to_string(shape.format)]++;
        if (ovgen::has_codes(shape)) covered["group " + std::to_string(shape.group)]++;
    }
    std::printf("%d cases\n", cases);
    for (const auto& [what, times] : covered) std::printf("%6d  %s\n", times, what.c_str());
}
