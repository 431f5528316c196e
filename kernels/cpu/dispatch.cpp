// Which instruction set is used.
#include "dispatch.h"

#include <atomic>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace ovgen {
namespace {

struct Entry {
    const char* name;
    const Kernels* (*kernels)();
    bool (*here)();
};

bool always() { return true; }

#if defined(__x86_64__)
bool has_avx2() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    const bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & 1u << 29);
    return f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

#ifdef OVGEN_EMULATE_VNNI  // for tests
bool has_avx_vnni() { return has_avx2(); }
bool has_avx512_vnni() { return has_avx2(); }
#else
bool has_avx_vnni() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 4);
}

bool has_avx512_vnni() {
    return has_avx2() && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}
#endif
#else
bool has_avx2() { return false; }
bool has_avx_vnni() { return false; }
bool has_avx512_vnni() { return false; }
#endif

const Entry kEntries[] = {
    {"scalar", scalar_kernels, always},
    {"avx2", avx2_kernels, has_avx2},
    {"avx_vnni", avx_vnni_kernels, has_avx_vnni},
    {"avx512_vnni", avx512_vnni_kernels, has_avx512_vnni},
};
constexpr int32_t kSets = sizeof kEntries / sizeof kEntries[0];

int32_t best() {
    int32_t set = kSets - 1;
    while (kernels(set) == nullptr) set--;
    return set;
}

std::atomic<int32_t> chosen{-1};  // none yet

}  // namespace

const Kernels* kernels(int32_t set) {
    const bool there = set >= 0 && set < kSets && kEntries[set].kernels != nullptr && kEntries[set].here();
    return there ? kEntries[set].kernels() : nullptr;
}

const Kernels& current_kernels() { return *kernels(ovgen_instruction_set()); }

}  // namespace ovgen

int32_t ovgen_instruction_sets() {
    int32_t sets = 0;
    for (int32_t set = 0; set < ovgen::kSets; set++) sets |= (ovgen::kernels(set) != nullptr) << set;
    return sets;
}

const char* ovgen_instruction_set_name(int32_t set) {
    return set >= 0 && set < ovgen::kSets ? ovgen::kEntries[set].name : nullptr;
}

int32_t ovgen_instruction_set() {
    const int32_t set = ovgen::chosen.load(std::memory_order_relaxed);
    if (set >= 0) return set;
    static const int32_t best = ovgen::best();
    return best;
}

int32_t ovgen_choose(int32_t set) {
    if (ovgen::kernels(set) == nullptr) return 0;
    ovgen::chosen.store(set, std::memory_order_relaxed);
    return 1;
}
