// test_support.h for tests that use torch: torch first, its CHECK macros out of the way, then
// doctest.
#pragma once
#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>

#undef CHECK
#undef CHECK_EQ
#undef CHECK_NE
#undef CHECK_LT
#undef CHECK_LE
#undef CHECK_GT
#undef CHECK_GE

#include "tests/test_support.h"
