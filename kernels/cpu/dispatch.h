// Which instruction set is used.
#pragma once

#include "api.h"
#include "kernels.h"

namespace ovgen {

const Kernels* kernels(int32_t set);  // null where the set is not there
const Kernels& current_kernels();     // of the set in use

}  // namespace ovgen
