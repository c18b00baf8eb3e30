#include "tests/test_support.h"

#include <vector>

#include "models/tokenizer/chat_format.h"

using namespace vyx::models;

TEST_CASE("[models.chat_format] ChatML closes each message and opens the assistant's") {
  const std::vector<ChatMessage> messages = {
      {"system", "Be brief."}, {"user", "Hi"}, {"assistant", "Hello"}, {"user", "Bye"}};
  CHECK(chatml(messages) ==
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>"
        "assistant\n");
}

TEST_CASE("[models.chat_format] ChatML adds no system message of its own") {
  const std::vector<ChatMessage> messages = {{"user", "How was your day?"}};
  CHECK(chatml(messages) ==
        "<|im_start|>user\nHow was your day?<|im_end|>\n<|im_start|>assistant\n");
}

TEST_CASE("[models.chat_format] ChatML is recognised by its markers, others are not") {
  CHECK(detect_chat_format("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' "
                           "+ message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{{ "
                           "'<|im_start|>assistant\n' }}") == "chatml");
  CHECK(detect_chat_format("") == "");
  CHECK(detect_chat_format("{{ '<|im_start|>' + message['content'] }}") == "");
  CHECK(detect_chat_format("<|im_start|>assistant<|im_sep|>x<|im_end|>") == "");
  CHECK(detect_chat_format("<|start_header_id|>assistant<|end_header_id|>") == "");
}
