#include "tests/torch_support.h"
// torch first
#include "core/hooks/activation.h"

namespace vyx {
namespace {

using c10::IValue;
using c10::ivalue::Tuple;

const at::Tensor kA = at::ones({2}), kB = at::zeros({3}), kNew = at::full({2}, 7);

TEST_CASE("[core.activation] the first tensor, depth first") {
  CHECK(activation_of(kA)->is_same(kA));
  CHECK(activation_of(Tuple::create(kA, kB))->is_same(kA));
  CHECK(activation_of(Tuple::create(IValue(), Tuple::create(IValue(3), kB), kA))->is_same(kB));
  CHECK(activation_of(c10::List<at::Tensor>({kB, kA}))->is_same(kB));
  c10::Dict<std::string, at::Tensor> dict;
  dict.insert("second", kB);
  dict.insert("first", kA);
  CHECK(activation_of(dict)->is_same(kB));  // in the order in which they were put in
}

TEST_CASE("[core.activation] values without a tensor have none") {
  for (const IValue& value :
       {IValue(), IValue(3), IValue("text"), IValue(c10::List<int64_t>({1, 2})),
        IValue(Tuple::create(IValue(), IValue(1.5))), IValue(at::Tensor())}) {
    CHECK_FALSE(activation_of(value));
    CHECK(test::contains(test::error_of([&] { with_activation(value, kNew); }),
                         "expected a value that holds a tensor"));
  }
}

TEST_CASE("[core.activation] its place is named where there are other tensors") {
  c10::Dict<std::string, at::Tensor> dict;
  dict.insert("mask", kB);
  dict.insert("hidden", kA);
  CHECK(place_of_activation(dict) == "['mask']");
  CHECK(place_of_activation(Tuple::create(IValue(), Tuple::create(kA, kB))) == "[1][0]");
  CHECK(place_of_activation(c10::List<at::Tensor>({kB, kA})) == "[0]");
  for (const IValue& alone : {IValue(kA), IValue(Tuple::create(kA, 3)), IValue(), IValue(7)})
    CHECK(place_of_activation(alone).empty());
}

TEST_CASE("[core.activation] replacing makes new containers and shares the other members") {
  const IValue tuple = Tuple::create(IValue(), Tuple::create(kA, kB), kB);
  const IValue replaced = with_activation(tuple, kNew);
  CHECK(activation_of(replaced)->is_same(kNew));
  CHECK(activation_of(tuple)->is_same(kA));
  CHECK(replaced.toTupleRef().elements()[1].toTupleRef().elements()[1].toTensor().is_same(kB));
  CHECK(replaced.toTupleRef().elements()[2].toTensor().is_same(kB));

  const c10::List<at::Tensor> list({kA, kB});
  CHECK(with_activation(list, kNew).toTensorVector()[0].is_same(kNew));
  CHECK(with_activation(list, kNew).toTensorVector()[1].is_same(kB));
  CHECK(list.get(0).is_same(kA));

  c10::Dict<std::string, at::Tensor> dict;
  dict.insert("hidden", kA);
  dict.insert("other", kB);
  const auto changed = with_activation(dict, kNew).toGenericDict();
  CHECK(changed.at("hidden").toTensor().is_same(kNew));
  CHECK(changed.begin()->key().toStringRef() == "hidden");
  CHECK(dict.at("hidden").is_same(kA));
}

TEST_CASE("[core.activation] a named tuple stays one") {
  const auto type = c10::TupleType::createNamed(c10::QualifiedName("Out"),
                                                std::vector<std::string>{"hidden", "cache"},
                                                {c10::TensorType::get(), c10::TensorType::get()});
  const IValue named = Tuple::createNamed(std::vector<IValue>{kA, kB}, type);
  CHECK(with_activation(named, kNew).type()->isSubtypeOf(*type));
}

}  // namespace
}  // namespace vyx
