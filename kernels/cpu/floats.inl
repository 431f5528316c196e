// The kernels for weights that are floats.
//
// Every result is one chain of additions, in the order of the columns, so that it is the same in whatever company a
// token comes. Several panels and tokens at a time are what keeps the units busy that add.

// How many columns of a number's type lie together (`kColumns`), and one of these, of which `at` is the first byte.
struct Float16 {
    static constexpr int64_t kBytes = 2, kColumns = 1;
    static Set::Floats load(const uint8_t* at, int) { return Set::halves(reinterpret_cast<const uint16_t*>(at)); }
};
struct Bfloat16 {
    static constexpr int64_t kBytes = 2, kColumns = 2;
    static Set::Floats load(const uint8_t* at, int column) {
        return column == 0 ? Set::lower_brain_halves(at) : Set::upper_brain_halves(at);
    }
};
struct Float32 {
    static constexpr int64_t kBytes = 4, kColumns = 1;
    static Set::Floats load(const uint8_t* at, int) { return Set::singles(reinterpret_cast<const float*>(at)); }
};

// Panels and tokens that are multiplied, and where the sums go: a panel has those of `all` tokens.
struct Factors {
    const uint8_t* weights;
    int64_t panel_bytes;
    const float* x;
    int64_t stride;   // from token to token
    int64_t columns;  // that are multiplied
    float* sums;
    int64_t all;
    bool more;  // whether they are added to the sums
};

template <class Number, int Panels, int Tokens>
void product(const Factors& given) {
    const Factors f = given;  // a copy whose address nobody has
    Set::Floats y[Panels][Tokens];
    for (int i = 0; i < Panels; i++) {
        for (int m = 0; m < Tokens; m++) {
            y[i][m] = f.more ? Set::singles(f.sums + (i * f.all + m) * kPanel) : Set::floats(0.0f);
        }
    }
    const uint8_t* weights = f.weights;
    const auto add = [&](int64_t first, int column) __attribute__((always_inline)) {
        Set::Floats w[Panels];
        for (int i = 0; i < Panels; i++) w[i] = Number::load(weights + i * f.panel_bytes, column);
        for (int m = 0; m < Tokens; m++) {
            const Set::Floats a = Set::floats(f.x[m * f.stride + first + column]);
            for (int i = 0; i < Panels; i++) y[i][m] = Set::add_product(y[i][m], w[i], a);
        }
    };
    int64_t first = 0;
    for (; first + Number::kColumns <= f.columns; first += Number::kColumns) {
        for (int column = 0; column < Number::kColumns; column++) add(first, column);
        weights += kPanel * Number::kBytes * Number::kColumns;
    }
    if (first < f.columns) add(first, 0);
    for (int i = 0; i < Panels; i++) {
        for (int m = 0; m < Tokens; m++) Set::store(f.sums + (i * f.all + m) * kPanel, y[i][m]);
    }
}

constexpr int64_t kMostTokens = 6;

// Sixteen registers hold twelve sums, what is multiplied, and a token's number.
constexpr int panels_with(int64_t tokens) { return tokens <= 2 ? 4 : 2; }

template <class Number, int Tokens>
void products(const Factors& factors, int64_t panels) {
    (panels == 1 ? product<Number, 1, Tokens> : product<Number, panels_with(Tokens), Tokens>)(factors);
}

// One panel, or `panels_with(tokens)`, times at most `kMostTokens` tokens.
template <class Number>
void multiply_part(const Factors& factors, int64_t panels, int64_t tokens) {
    switch (tokens) {
        case 1: return products<Number, 1>(factors, panels);
        case 2: return products<Number, 2>(factors, panels);
        case 3: return products<Number, 3>(factors, panels);
        case 4: return products<Number, 4>(factors, panels);
        case 5: return products<Number, 5>(factors, panels);
        default: return products<Number, 6>(factors, panels);
    }
}

// The same for any tokens: parts of about as many each.
template <class Number>
void multiply_parts(const Factors& whole, int64_t panels, int64_t tokens) {
    Factors factors = whole;
    const int64_t parts = (tokens + kMostTokens - 1) / kMostTokens;
    for (int64_t part = 0; part < parts; part++) {
        const int64_t first = tokens * part / parts;
        factors.x = whole.x + first * whole.stride;
        factors.sums = whole.sums + first * kPanel;
        multiply_part<Number>(factors, panels, tokens * (part + 1) / parts - first);
    }
}

constexpr int64_t kWidened = 256;  // columns: of two panels, 16 KB, which stay in the nearest cache

// The same of weights that are made float32 once for all tokens.
template <class Number>
void multiply_widened(const Factors& whole, int64_t panels, int64_t tokens) {
    alignas(64) float wide[panels_with(kMostTokens) * kWidened * kPanel];
    Factors factors = whole;
    factors.weights = reinterpret_cast<const uint8_t*>(wide);
    factors.panel_bytes = kWidened * kPanel * 4;
    for (int64_t first = 0; first < whole.columns; first += kWidened) {
        factors.columns = whole.columns - first < kWidened ? whole.columns - first : kWidened;
        for (int64_t i = 0; i < panels; i++) {
            const uint8_t* from = whole.weights + i * whole.panel_bytes + first * kPanel * Number::kBytes;
            float* to = wide + i * kWidened * kPanel;
            for (int64_t next = 0; next < factors.columns; next += Number::kColumns) {
                for (int column = 0; column < Number::kColumns; column++, to += kPanel) {
                    Set::store(to, Number::load(from + next * kPanel * Number::kBytes, column));
                }
            }
        }
        factors.x = whole.x + first;
        factors.more = first > 0;
        multiply_parts<Float32>(factors, panels, tokens);
    }
}

template <class Number>
void multiply_numbers(const OvgenShape& shape, const Layout& layout, const uint8_t* packed, const float* x,
                      int64_t tokens, int64_t begin, int64_t end, float* const* outputs) {
    const bool as_they_are = Number::kBytes == 4 || tokens <= kMostTokens;
    const auto multiply = as_they_are ? multiply_parts<Number> : multiply_widened<Number>;
    const auto some = [&](int64_t index, int64_t count, float* sums) {
        for (int64_t done = 0, panels; done < count; done += panels) {
            panels = panels_with(tokens) <= count - done ? panels_with(tokens) : 1;
            const uint8_t* weights = packed + (index + done) * layout.panel_bytes;
            float* to = sums + done * tokens * kPanel;
            multiply({weights, layout.panel_bytes, x, shape.columns, shape.columns, to, tokens, false}, panels, tokens);
        }
    };
    for_panels<kFloatTile>(shape, layout, packed, tokens, begin, end, outputs, some);
}

void multiply_floats(const OvgenShape& shape, const Layout& layout, const uint8_t* packed, const float* x,
                     int64_t tokens, int64_t begin, int64_t end, float* const* outputs) {
    const auto multiply = shape.format == kFloat16    ? multiply_numbers<Float16>
                          : shape.format == kBfloat16 ? multiply_numbers<Bfloat16>
                                                      : multiply_numbers<Float32>;
    multiply(shape, layout, packed, x, tokens, begin, end, outputs);
}
