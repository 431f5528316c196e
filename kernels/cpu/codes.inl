// The kernels for weights that are codes: activations are quantised, too.

inline void quantise_piece(const float* x, int64_t count, int8_t* codes, int64_t stride, float* scale, float* sum) {
    float filled[kPiece];
    const int64_t padded = up(count, kBlock);
    if (padded != count) {
        std::memcpy(filled, x, count * 4);
        for (int64_t i = count; i < padded; i++) filled[i] = 0.0f;
        x = filled;
    }
    Set::Ints tops = Set::no_ints();  // floats of one sign are ordered as their bits are, NaN above all
    for (int64_t i = 0; i < padded; i += kPanel) tops = Set::larger_magnitudes(tops, x + i);
    const int32_t top = Set::largest(tops);
    float most;
    std::memcpy(&most, &top, 4);
    const bool finite = top < 0x7f800000;
    const bool zero = !finite || most < 1.5e-36f;
    Set::Ints totals = Set::no_ints();
    for (int64_t i = 0; i < padded; i += kBlock, codes += stride) {
        if (zero) {
            std::memset(codes, 0, kBlock);
        } else {
            totals = Set::quantise_block(x + i, 127.0f / most, codes, totals);
        }
    }
    *scale = finite ? (zero ? 0.0f : most / 127.0f) : __builtin_nanf("");
    *sum = static_cast<float>(Set::total(totals));
}

void quantise(const OvgenShape& shape, const Layout& layout, const float* x, int64_t token, const Tile& tile) {
    int8_t* codes = tile.codes + token * kBlock;
    int64_t at = token;  // of the piece's numbers
    for (int64_t group = 0; group < layout.groups; group++) {
        for (int64_t done = 0; done < shape.group; done += kPiece, at += tile.tokens) {
            const int64_t count = shape.group - done < kPiece ? shape.group - done : kPiece;
            quantise_piece(x, count, codes, tile.tokens * kBlock, tile.scales + at, tile.sums + at);
            x += count;
            codes += up(count, kBlock) * tile.tokens;
        }
    }
}

enum class Zero { kNone, kEight, kStored };

// One panel times the tokens of a tile, in `sums` (tokens, 8). `Tokens` is their number, so that loops over them are
// unrolled and sums stay in registers, or 0 for any number. The result of a token is the same either way.
template <int Bits, Zero Kind, int Tokens>
inline __attribute__((always_inline)) void panel(const Layout& layout, const uint8_t* codes, const uint16_t* scales,
                                                 const uint16_t* zeros, const Tile& tile, float* sums) {
    using Part = Set::Weights<Bits>;
    const int64_t tokens = Tokens ? Tokens : tile.tokens;
    Set::Floats y[Tokens ? Tokens : kTile];
    Set::Ints dots[Tokens ? Tokens : kTile];
    const int8_t* a = tile.codes;
    int64_t at = 0;  // of the piece's numbers
    for (int64_t m = 0; m < tokens; m++) y[m] = Set::floats(0.0f);
    for (int64_t group = 0; group < layout.groups; group++, scales += kPanel, zeros += kPanel) {
        const Set::Floats scale = Set::halves(scales);
        Set::Floats zero = Kind == Zero::kStored ? Set::halves(zeros) : Set::floats(8.0f);
        if (Kind == Zero::kStored && Bits == 8) zero = Set::sum(zero, Set::floats(-128.0f));  // codes are signed
        int64_t left = layout.blocks_per_group;
        for (int64_t piece = 0; piece < layout.pieces_per_group; piece++, at += tokens) {
            for (int64_t m = 0; m < tokens; m++) dots[m] = Set::no_ints();
            const int64_t blocks = left < kPiece / kBlock ? left : kPiece / kBlock;
            left -= blocks;
            for (int64_t block = 0; block < blocks; block++, a += tokens * kBlock) {
                for (int64_t column = 0; column < kBlock; column += Part::kColumns) {
                    const Part weights(codes);
                    codes += Part::kColumns * kPanel * Bits / 8;
                    const int8_t* b = a + column;
                    for (int64_t m = 0; m < tokens; m++, b += kBlock) dots[m] = Set::dot(weights, b, dots[m]);
                }
            }
            for (int64_t m = 0; m < tokens; m++) {
                Set::Floats dot = Set::floats(dots[m]);
                if (Kind != Zero::kNone) dot = Set::subtract_product(dot, zero, Set::floats(tile.sums[at + m]));
                y[m] = Set::add_product(y[m], Set::product(scale, Set::floats(tile.scales[at + m])), dot);
            }
        }
    }
    for (int64_t m = 0; m < tokens; m++) Set::store(sums + m * kPanel, y[m]);
}

template <int Bits, Zero Kind>
void panel_of_any(const OvgenShape& shape, const Layout& layout, const uint8_t* packed, int64_t index, const Tile& tile,
                  float* sums) {
    const uint8_t* codes = packed + index * layout.panel_bytes;
    const int64_t numbers = index * layout.groups * kPanel;
    const uint16_t* scales = reinterpret_cast<const uint16_t*>(packed + layout.scales) + numbers;
    const uint16_t* zeros = reinterpret_cast<const uint16_t*>(packed + layout.zeros) + numbers;
    switch (tile.tokens) {
        case 1: panel<Bits, Kind, 1>(layout, codes, scales, zeros, tile, sums); break;
        case 2: panel<Bits, Kind, 2>(layout, codes, scales, zeros, tile, sums); break;
        case 3: panel<Bits, Kind, 3>(layout, codes, scales, zeros, tile, sums); break;
        case 4: panel<Bits, Kind, 4>(layout, codes, scales, zeros, tile, sums); break;
        default: panel<Bits, Kind, 0>(layout, codes, scales, zeros, tile, sums);
    }
}

using Panel = void (*)(const OvgenShape&, const Layout&, const uint8_t*, int64_t, const Tile&, float*);

inline Panel panel_for(const OvgenShape& shape) {
    if (shape.format == kInt4) return shape.zero_points ? panel_of_any<4, Zero::kStored> : panel_of_any<4, Zero::kEight>;
    return shape.zero_points ? panel_of_any<8, Zero::kStored> : panel_of_any<8, Zero::kNone>;
}

void multiply(const OvgenShape& shape, const Layout& layout, const uint8_t* packed, const Tile& tile, int64_t begin,
              int64_t end, float* const* outputs) {
    const Panel compute = panel_for(shape);
    const auto some = [&](int64_t index, int64_t count, float* sums) {
        for (int64_t i = 0; i < count; i++) {
            compute(shape, layout, packed, index + i, tile, sums + i * tile.tokens * kPanel);
        }
    };
    for_panels<kTile>(shape, layout, packed, tile.tokens, begin, end, outputs, some);
}
