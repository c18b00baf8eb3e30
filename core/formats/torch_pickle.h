// What the pickles of torch.save consist of: the opcodes of tensors and plain values, and the names
// that they may call by.
#pragma once
#include <cstdint>
#include <string_view>
#include <utility>

#include "core/formats/element_type.h"

namespace vyx::torch_pickle {

inline constexpr std::pair<std::string_view, ElementType> kStorages[] = {
    {"torch FloatStorage", ElementType::f32},       {"torch DoubleStorage", ElementType::f64},
    {"torch HalfStorage", ElementType::f16},        {"torch LongStorage", ElementType::i64},
    {"torch BFloat16Storage", ElementType::bf16},   {"torch IntStorage", ElementType::i32},
    {"torch ShortStorage", ElementType::i16},       {"torch CharStorage", ElementType::i8},
    {"torch ByteStorage", ElementType::u8},         {"torch BoolStorage", ElementType::boolean},
    {"torch ComplexFloatStorage", ElementType::c64}};
// What TorchScript archives have beside these.
inline constexpr std::string_view kScriptNames[] = {"torch device",
                                                    "torch.jit._pickle build_intlist",
                                                    "torch.jit._pickle build_doublelist",
                                                    "torch.jit._pickle build_boollist",
                                                    "torch.jit._pickle build_tensorlist",
                                                    "torch.jit._pickle restore_type_tag"};
inline constexpr std::string_view kTypeTag = kScriptNames[5];
inline constexpr std::string_view kComplexDouble = "torch ComplexDoubleStorage";
// LibTorch's own classes, which take any state.
inline constexpr std::string_view kForeignClasses = "__torch__.torch.classes";

inline constexpr std::string_view kOrderedDict = "collections OrderedDict";
inline constexpr std::string_view kRebuildTensor = "torch._utils _rebuild_tensor_v2";
inline constexpr std::string_view kRebuildParameter = "torch._utils _rebuild_parameter";

// Pickle's opcodes, protocol 2 (Python's pickletools.py): those that torch.save makes of tensors
// and plain values.
enum Opcode : uint8_t {
  kProto = 0x80,
  kStop = '.',
  kMark = '(',
  kNone = 'N',
  kTrue = 0x88,
  kFalse = 0x89,
  kInt = 'J',
  kInt1 = 'K',
  kInt2 = 'M',
  kLong1 = 0x8a,
  kFloat = 'G',
  kText = 'X',
  kEmptyTuple = ')',
  kTuple = 't',
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kEmptyList = ']',
  kAppend = 'a',
  kAppends = 'e',
  kEmptyDict = '}',
  kSetItem = 's',
  kSetItems = 'u',
  kPut = 'q',
  kLongPut = 'r',
  kGet = 'h',
  kLongGet = 'j',
  kGlobal = 'c',
  kReduce = 'R',
  kBuild = 'b',
  kPersistent = 'Q',
  kNewObject = 0x81,  // of TorchScript's
};

}  // namespace vyx::torch_pickle
