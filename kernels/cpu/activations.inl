// Activation functions, written so that compilers turn loops over them into vector instructions.

// 2^n e^r with |r| <= ln 2 / 2; the polynomial is that of Cephes' expf, good to 2e-7.
inline float exponential(float x) {
    x = x > -87.0f ? x : -87.0f;  // NaN, too: callers multiply or divide by it themselves
    x = x < 88.0f ? x : 88.0f;
    const float shifter = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
    const float n = (x * 1.44269504f + shifter) - shifter;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float y = 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
    float power;
    std::memcpy(&power, &bits, 4);
    return y * power;
}

inline float silu(float x) { return x / (1.0f + exponential(-x)); }

// x (1 + tanh u) / 2 = x / (1 + e^-2u)
inline float gelu_tanh(float x) {
    return x / (1.0f + exponential(-1.5957691216f * (x + 0.044715f * x * x * x)));
}

// erfc by Abramowitz and Stegun 7.1.26, good to 1.5e-7.
inline float gelu_erf(float x) {
    const float z = (x < 0 ? -x : x) * 0.70710678f;
    const float t = 1.0f / (1.0f + 0.3275911f * z);
    float y = 1.061405429f;
    y = y * t - 1.453152027f;
    y = y * t + 1.421413741f;
    y = y * t - 0.284496736f;
    y = y * t + 0.254829592f;
    const float half = 0.5f * y * t * exponential(-z * z);  // of erfc(z)
    return x * (x < 0 ? half : 1.0f - half);
}

inline float relu(float x) { return x < 0 ? 0.0f : x; }  // NaN stays

template <float (*F)(float)>
inline void apply_to(float* y, int64_t count) {
    for (int64_t i = 0; i < count; i++) y[i] = F(y[i]);
}

inline void activate(int32_t activation, float* y, int64_t count) {
    switch (activation) {
        case kRelu: return apply_to<relu>(y, count);
        case kGeluTanh: return apply_to<gelu_tanh>(y, count);
        case kGeluErf: return apply_to<gelu_erf>(y, count);
        case kSilu: return apply_to<silu>(y, count);
        default: return;
    }
}
