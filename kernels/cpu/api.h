// What the library offers besides OpenVINO operations: packing, and the kernels themselves, for tests and benchmarks.
#pragma once

#include "packed.h"

#define OVGEN_API __attribute__((visibility("default")))

extern "C" {

// Instruction sets: 0 scalar, 1 AVX2, 2 AVX-VNNI, 3 AVX512-VNNI (256-bit registers).
// A bit for each that was compiled in and that this CPU has.
OVGEN_API int32_t ovgen_instruction_sets();
OVGEN_API const char* ovgen_instruction_set_name(int32_t set);  // "scalar", "avx2", "avx_vnni", "avx512_vnni"; null after the last
OVGEN_API int32_t ovgen_instruction_set();                      // the one in use: the last of them, or what was chosen
OVGEN_API int32_t ovgen_choose(int32_t set);                    // 0 if it is not there

OVGEN_API int64_t ovgen_packed_bytes(const OvgenShape* shape);

// Pack one projection of codes. They are as OpenVINO stores them, (rows, columns), two to a byte in 4 bits, the first in the
// lower half: `dtype` 0 u8, 1 i8, 2 u4, 3 i4. `scale` is float16 (rows, groups). Zero points (rows, groups): `zero_u8`
// a byte each, or `zero_f16`, or neither; given where the shape stores them. `bias`: float32 (rows) or null.
// The memory at `packed` must have been zeroed.
OVGEN_API void ovgen_pack(const OvgenShape* shape, int32_t projection, const uint8_t* codes, int32_t dtype, const uint16_t* scale,
                const uint8_t* zero_u8, const uint16_t* zero_f16, const float* bias, uint8_t* packed);

// The same of floats, which are stored in the shape's format. Numbers of a row are `column_bytes` apart, rows `row_bytes`.
OVGEN_API void ovgen_pack_floats(const OvgenShape* shape, int32_t projection, const uint8_t* numbers, int64_t row_bytes,
                                 int64_t column_bytes, const float* bias, uint8_t* packed);

// 0 if the instruction set is not there. x: (tokens, columns). outputs: a pointer for each projection, (tokens, rows); one if gated. `threads` 0: as many as
// the task arena has.
OVGEN_API int32_t ovgen_linear(int32_t set, const OvgenShape* shape, const uint8_t* packed, const float* x, int64_t tokens,
                  float* const* outputs, int32_t threads);

// Rows of the (first) projection: out (count, columns). Ids below 0 count from the end; rows that are not there are zeros.
OVGEN_API void ovgen_embedding(const OvgenShape* shape, const uint8_t* packed, const int64_t* ids, int64_t count, float* out);
}
