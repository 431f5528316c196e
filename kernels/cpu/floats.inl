// The kernels for weights that are floats, for whichever instruction set the including source has defined as `Set`.
//
// Every result is one chain of additions, in the order of the columns, so that it is the same in whatever company a
// token comes. Several panels and tokens at a time are what keeps the units busy that add.

struct Float16 {
    static constexpr int64_t kBytes = 2;
    static Set::Floats load(const uint8_t* at) { return Set::halves(reinterpret_cast<const uint16_t*>(at)); }
};
struct Bfloat16 {
    static constexpr int64_t kBytes = 2;
    static Set::Floats load(const uint8_t* at) { return Set::brain_halves(reinterpret_cast<const uint16_t*>(at)); }
};
struct Float32 {
    static constexpr int64_t kBytes = 4;
    static Set::Floats load(const uint8_t* at) { return Set::singles(reinterpret_cast<const float*>(at)); }
};

// Panels from `weights` on times tokens from `x` on, to `sums`, where a panel has those of `all` tokens.
template <class Number, int Panels, int Tokens>
inline void product(const Layout& layout, int64_t columns, const uint8_t* weights, const float* x, int64_t all, float* sums) {
    Set::Floats y[Panels][Tokens];
    for (int i = 0; i < Panels; i++) {
        for (int m = 0; m < Tokens; m++) y[i][m] = Set::floats(0.0f);
    }
    for (int64_t column = 0; column < columns; column++, weights += kPanel * Number::kBytes) {
        Set::Floats w[Panels];
        for (int i = 0; i < Panels; i++) w[i] = Number::load(weights + i * layout.panel_bytes);
        for (int m = 0; m < Tokens; m++) {
            const Set::Floats a = Set::floats(x[m * columns + column]);
            for (int i = 0; i < Panels; i++) y[i][m] = Set::add_product(y[i][m], w[i], a);
        }
    }
    for (int i = 0; i < Panels; i++) {
        for (int m = 0; m < Tokens; m++) Set::store(sums + (i * all + m) * kPanel, y[i][m]);
    }
}

constexpr int64_t kMostTokens = 6;

// Sixteen registers hold twelve sums, what is multiplied, and a token's number.
constexpr int panels_with(int64_t tokens) { return tokens <= 2 ? 4 : 2; }

template <class Number>
using Product = void (*)(const Layout&, int64_t, const uint8_t*, const float*, int64_t, float*);

template <class Number>
inline Product<Number> product_for(int64_t panels, int64_t tokens) {
    switch (tokens) {
        case 1: return panels == 1 ? product<Number, 1, 1> : product<Number, panels_with(1), 1>;
        case 2: return panels == 1 ? product<Number, 1, 2> : product<Number, panels_with(2), 2>;
        case 3: return panels == 1 ? product<Number, 1, 3> : product<Number, panels_with(3), 3>;
        case 4: return panels == 1 ? product<Number, 1, 4> : product<Number, panels_with(4), 4>;
        case 5: return panels == 1 ? product<Number, 1, 5> : product<Number, panels_with(5), 5>;
        default: return panels == 1 ? product<Number, 1, 6> : product<Number, panels_with(6), 6>;
    }
}

template <class Number>
void multiply_numbers(const OvgenShape& shape, const Layout& layout, const uint8_t* packed, const float* x, int64_t tokens,
                      int64_t begin, int64_t end, float* const* outputs) {
    for_panels<kFloatTile>(shape, layout, packed, tokens, begin, end, outputs, [&](int64_t index, int64_t count, float* sums) {
        const int64_t parts = (tokens + kMostTokens - 1) / kMostTokens;  // of about as many tokens each
        for (int64_t done = 0, panels; done < count; done += panels) {
            panels = panels_with((tokens + parts - 1) / parts);
            if (panels > count - done) panels = 1;
            const uint8_t* weights = packed + (index + done) * layout.panel_bytes;
            for (int64_t part = 0; part < parts; part++) {
                const int64_t first = tokens * part / parts, some = tokens * (part + 1) / parts - first;
                const auto compute = product_for<Number>(panels, some);
                compute(layout, shape.columns, weights, x + first * shape.columns, tokens, sums + (done * tokens + first) * kPanel);
            }
        }
    });
}

void multiply_floats(const OvgenShape& shape, const Layout& layout, const uint8_t* packed, const float* x, int64_t tokens,
                     int64_t begin, int64_t end, float* const* outputs) {
    const auto multiply = shape.format == kFloat16    ? multiply_numbers<Float16>
                          : shape.format == kBfloat16 ? multiply_numbers<Bfloat16>
                                                      : multiply_numbers<Float32>;
    multiply(shape, layout, packed, x, tokens, begin, end, outputs);
}
