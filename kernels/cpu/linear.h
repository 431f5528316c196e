// The whole multiplication: activations quantised if need be, tiles, threads.
#pragma once

#include "kernels.h"

namespace ovgen {

// See `ovgen_linear` in api.h.
void linear(const Kernels& kernels, const OvgenShape& shape, const uint8_t* packed, const float* x, int64_t tokens,
            float* const* outputs, int64_t threads);

}  // namespace ovgen
