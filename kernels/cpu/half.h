// float16 and bfloat16 for every CPU.
#pragma once

#include <cstdint>
#include <cstring>

namespace ovgen {
namespace {  // a copy for each source: instruction sets must not share it

inline float half_to_float(uint16_t half) {
    const uint32_t magnitude = half & 0x7fff;
    uint32_t bits = (magnitude << 13) + ((127 - 15) << 23);
    if (magnitude >= 0x7c00) bits = (magnitude << 13) | 0x7f800000;  // infinite, or NaN
    float value;
    std::memcpy(&value, &bits, 4);
    if (magnitude < 0x400) value = static_cast<float>(magnitude) * 5.9604644775390625e-8f;  // denormal: times 2^-24
    return half & 0x8000 ? -value : value;
}

inline float brain_half_to_float(uint16_t half) {
    const uint32_t bits = static_cast<uint32_t>(half) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

// The nearest, of two the even one; for numbers below 65520.
inline uint16_t float_to_half(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude < (127 - 14) << 23) {  // denormal: in units of 2^-24, rounded by adding 2^23
        float units;
        std::memcpy(&units, &magnitude, 4);
        units = units * 16777216.0f + 8388608.0f;
        std::memcpy(&bits, &units, 4);
        return static_cast<uint16_t>(sign | (bits & 0x7fffff));
    }
    const uint32_t even = magnitude + 0xfff + (magnitude >> 13 & 1);
    return static_cast<uint16_t>(sign | ((even >> 13) - ((127 - 15) << 10)));
}

}  // namespace
}  // namespace ovgen
