// What becomes of the sums of panels, whatever they are computed from: biases, activations, gates, outputs.
//
// All .inl files are for whichever instruction set the including source has defined as `Set`:
//
//     Ints, Floats            eight int32, eight float, a row to a lane; what is done with them
//     quantise_block(...)     round 32 activations to codes, half to even, and add these to totals
//     Weights<Bits>           what is kept in registers of a part of a block, and of how many columns (`kColumns`)
//     dot(weights, a, sum)    sum + the products with these columns of a token's codes, exactly
//
// Everything in them is in an unnamed namespace, and functions of headers are always inlined: what is compiled for one
// instruction set must not be taken by the linker for another.

constexpr int64_t kTogether = 4;  // panels

// Write `rows` of the eight results of each token to `out`, whose rows are `stride` long.
inline void write(const float* results, int64_t tokens, int64_t rows, float* out, int64_t stride) {
    for (int64_t m = 0; m < tokens; m++) {
        if (rows == kPanel) {  // of a known length: one instruction
            std::memcpy(out + m * stride, results + m * kPanel, kPanel * 4);
        } else {
            std::memcpy(out + m * stride, results + m * kPanel, rows * 4);
        }
    }
}

// Call compute(index, count, sums) for panels [begin, end), at most `kTogether` at a time, for sums (count, tokens, 8).
template <int64_t MostTokens, class Compute>
inline void for_panels(const OvgenShape& shape, const Layout& layout, const uint8_t* packed, int64_t tokens,
                       int64_t begin, int64_t end, float* const* outputs, const Compute& compute) {
    alignas(64) float sums[kTogether * MostTokens * kPanel];
    const float* biases = reinterpret_cast<const float*>(packed + layout.biases);
    const int64_t size = tokens * kPanel;          // of a panel's sums
    const int64_t together = shape.gated ? 2 : 1;  // panels that make one result
    int64_t projection = 0, first = 0;             // panel of the projection
    for (int64_t index = begin; index < end; index += kTogether) {
        const int64_t count = end - index < kTogether ? end - index : kTogether;
        compute(index, count, sums);
        for (int64_t i = 0; i < count; i += together) {
            float* y = sums + i * size;
            for (int64_t j = 0; shape.bias && j < together; j++) {
                const float* bias = biases + (index + i + j) * kPanel;
                for (int64_t m = j * tokens; m < (j + 1) * tokens; m++) {
                    for (int64_t row = 0; row < kPanel; row++) y[m * kPanel + row] += bias[row];
                }
            }
            activate(shape.activation, y, size);
            int64_t panel = index + i;
            if (shape.gated) {  // panels of the first projection and the second in turn
                for (int64_t j = 0; j < size; j++) y[j] *= y[size + j];
                panel /= 2;
            }
            while (panel - first >= up(shape.rows[projection], kPanel) / kPanel) {
                first += up(shape.rows[projection++], kPanel) / kPanel;
            }
            const int64_t row = (panel - first) * kPanel, rows = shape.rows[projection];
            write(y, tokens, rows - row < kPanel ? rows - row : kPanel, outputs[projection] + row, rows);
        }
    }
}
