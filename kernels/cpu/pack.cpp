// From OpenVINO's order to that of the kernels, and back for lookups.
#include <tbb/parallel_for.h>

#include <algorithm>
#include <cstring>

#include "api.h"
#include "half.h"

namespace ovgen {
namespace {

enum Dtype : int32_t { kU8, kI8, kU4, kI4 };

// Where panel `i` of a projection is among all.
int64_t place(const OvgenShape& shape, int64_t projection, int64_t i) {
    if (shape.gated) return 2 * i + projection;
    for (int64_t before = 0; before < projection; before++) i += up(shape.rows[before], kPanel) / kPanel;
    return i;
}

// Code of a column as the kernels know it: unsigned in 4 bits, signed in 8.
inline uint8_t code(const uint8_t* row, int64_t column, int32_t dtype) {
    switch (dtype) {
        case kU8: return row[column] ^ 0x80;
        case kI8: return row[column];
        default: {
            const uint8_t half = column % 2 ? row[column / 2] >> 4 : row[column / 2] & 15;
            return dtype == kI4 ? half ^ 8 : half;
        }
    }
}

// Byte of a column of a row within a block; in 4 bits, the second of four columns each lie in the upper half.
inline int64_t byte_of(int32_t format, int64_t row, int64_t column) {
    return format == kInt4 ? column / 8 * 32 + row * 4 + column % 4 : column / 4 * 32 + row * 4 + column % 4;
}

// The four bytes of a unit of a row: 8 or 4 columns from `column` on, of which `count` are there.
inline uint32_t unit(const uint8_t* row, int64_t column, int64_t count, int32_t dtype) {
    uint32_t word = 0;
    if (count == 4 && dtype <= kI8) {
        std::memcpy(&word, row + column, 4);
        return dtype == kU8 ? word ^ 0x80808080u : word;
    }
    if (count == 8 && column % 2 == 0) {
        std::memcpy(&word, row + column / 2, 4);
        if (dtype == kI4) word ^= 0x88888888u;
        const uint32_t even = word & 0x0f0f0f0fu, odd = word >> 4 & 0x0f0f0f0fu;
        const uint32_t x = even | even >> 12, y = odd | odd >> 12;  // columns 0, 4; 2, 6, and 1, 5; 3, 7
        return (x & 0xff) | (y & 0xff) << 8 | (x & 0xff00) << 8 | (y & 0xff00) << 16;
    }
    for (int64_t i = 0; i < count; i++) {
        const uint32_t value = code(row, column + i, dtype);
        word |= value << (i % 4 * 8 + i / 4 * 4);
    }
    return word;
}

void pack_row(const OvgenShape& shape, const Layout& layout, const uint8_t* codes, int32_t dtype, int64_t row,
              uint8_t* panel) {
    const int64_t width = 32 / bits_of(shape.format);  // of a unit
    for (int64_t group = 0; group < layout.groups; group++) {
        for (int64_t i = 0; i < shape.group; i += width) {
            const int64_t block = group * layout.blocks_per_group + i / kBlock;
            const uint32_t word = unit(codes, group * shape.group + i, std::min(width, shape.group - i), dtype);
            std::memcpy(panel + block * layout.block_bytes + i % kBlock / width * 32 + row * 4, &word, 4);
        }
    }
}

template <class Number>
void pack_floats(const OvgenShape& shape, const Layout& layout, int64_t projection, const uint8_t* numbers,
                 int64_t row_bytes, int64_t column_bytes, uint8_t* packed) {
    const int64_t rows = shape.rows[projection];
    tbb::parallel_for(int64_t(0), up(rows, kPanel) / kPanel, [&](int64_t i) {
        auto* panel = reinterpret_cast<Number*>(packed + place(shape, projection, i) * layout.panel_bytes);
        const int64_t count = std::min(kPanel, rows - i * kPanel);
        for (int64_t column = 0; column < shape.columns; column++) {
            const uint8_t* from = numbers + i * kPanel * row_bytes + column * column_bytes;
            for (int64_t lane = 0; lane < count; lane++) {
                const int64_t to = place_of(shape.format, column, lane);
                std::memcpy(panel + to, from + lane * row_bytes, sizeof(Number));
            }
        }
    });
}

void pack_bias(const OvgenShape& shape, const Layout& layout, int64_t projection, const float* bias, uint8_t* packed) {
    if (!shape.bias || !bias) return;
    auto* biases = reinterpret_cast<float*>(packed + layout.biases);
    for (int64_t row = 0; row < shape.rows[projection]; row++) {
        biases[place(shape, projection, row / kPanel) * kPanel + row % kPanel] = bias[row];
    }
}

// One row of a panel of codes.
void unpack_codes(const OvgenShape& shape, const Layout& layout, const uint8_t* packed, int64_t panel, int64_t row,
                  float* out) {
    const auto* scales = reinterpret_cast<const uint16_t*>(packed + layout.scales);
    const auto* zeros = reinterpret_cast<const uint16_t*>(packed + layout.zeros);
    const uint8_t* codes = packed + panel * layout.panel_bytes;
    const bool unsigned_codes = shape.format == kInt4;
    for (int64_t group = 0; group < layout.groups; group++) {
        const int64_t at = (panel * layout.groups + group) * kPanel + row;
        const float scale = half_to_float(scales[at]);
        const float unsigned_zero = shape.zero_points ? half_to_float(zeros[at]) : unsigned_codes ? 8.0f : 128.0f;
        const float zero = unsigned_codes ? unsigned_zero : unsigned_zero - 128.0f;
        float* y = out + group * shape.group;
        const uint8_t* first = codes + group * layout.blocks_per_group * layout.block_bytes;
        for (int64_t column = 0; column < shape.group; column++) {
            const uint8_t* block = first + column / kBlock * layout.block_bytes;
            const uint8_t byte = block[byte_of(shape.format, row, column % kBlock)];
            const int value = !unsigned_codes           ? static_cast<int8_t>(byte)
                              : column % kBlock % 8 < 4 ? byte & 15
                                                        : byte >> 4;
            y[column] = (static_cast<float>(value) - zero) * scale;
        }
    }
}

// The same of floats.
void unpack_floats(const OvgenShape& shape, const Layout& layout, const uint8_t* packed, int64_t panel, int64_t row,
                   float* out) {
    const uint8_t* numbers = packed + panel * layout.panel_bytes;
    for (int64_t column = 0; column < shape.columns; column++) {
        const int64_t at = place_of(shape.format, column, row);
        if (shape.format == kFloat32) {
            out[column] = reinterpret_cast<const float*>(numbers)[at];
        } else {
            const uint16_t half = reinterpret_cast<const uint16_t*>(numbers)[at];
            out[column] = shape.format == kFloat16 ? half_to_float(half) : brain_half_to_float(half);
        }
    }
}

}  // namespace
}  // namespace ovgen

using namespace ovgen;

int64_t ovgen_packed_bytes(const OvgenShape* shape) { return Layout(*shape).bytes; }

void ovgen_pack(const OvgenShape* shape, int32_t projection, const uint8_t* codes, int32_t dtype, const uint16_t* scale,
                const uint8_t* zero_u8, const uint16_t* zero_f16, const float* bias, uint8_t* packed) {
    const Layout layout(*shape);
    const int64_t row_bytes = shape->format == kInt4 ? shape->columns / 2 : shape->columns;
    const int64_t rows = shape->rows[projection];
    auto* scales = reinterpret_cast<uint16_t*>(packed + layout.scales);
    auto* zeros = reinterpret_cast<uint16_t*>(packed + layout.zeros);
    tbb::parallel_for(int64_t(0), up(rows, kPanel) / kPanel, [&](int64_t i) {
        const int64_t panel = place(*shape, projection, i);
        for (int64_t row = i * kPanel; row < std::min(rows, (i + 1) * kPanel); row++) {
            const int64_t lane = row % kPanel;
            pack_row(*shape, layout, codes + row * row_bytes, dtype, lane,
                     packed + panel * layout.panel_bytes);
            for (int64_t group = 0; group < layout.groups; group++) {
                const int64_t from = row * layout.groups + group, to = (panel * layout.groups + group) * kPanel + lane;
                scales[to] = scale[from];
                if (!shape->zero_points) continue;
                float zero = zero_u8 ? zero_u8[from] : zero_f16 ? half_to_float(zero_f16[from]) : 0.0f;
                if (dtype == kI8) zero += 128;
                if (dtype == kI4) zero += 8;
                zeros[to] = float_to_half(zero);
            }
        }
    });
    pack_bias(*shape, layout, projection, bias, packed);
}

void ovgen_pack_floats(const OvgenShape* shape, int32_t projection, const uint8_t* numbers, int64_t row_bytes,
                       int64_t column_bytes, const float* bias, uint8_t* packed) {
    const Layout layout(*shape);
    const auto pack = shape->format == kFloat32 ? pack_floats<uint32_t> : pack_floats<uint16_t>;
    pack(*shape, layout, projection, numbers, row_bytes, column_bytes, packed);
    pack_bias(*shape, layout, projection, bias, packed);
}

void ovgen_embedding(const OvgenShape* shape, const uint8_t* packed, const int64_t* ids, int64_t count, float* out) {
    const Layout layout(*shape);
    const int64_t rows = shape->rows[0];
    const auto unpack = has_codes(*shape) ? unpack_codes : unpack_floats;
    for (int64_t i = 0; i < count; i++, out += shape->columns) {
        const int64_t id = ids[i] < 0 ? ids[i] + rows : ids[i];
        if (id < 0 || id >= rows) {  // as OpenVINO's Gather does
            std::fill_n(out, shape->columns, 0.0f);
        } else {
            unpack(*shape, layout, packed, place(*shape, 0, id / kPanel), id % kPanel, out);
        }
    }
}
