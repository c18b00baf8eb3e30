// The C++ side of test_chat.py: parity-chat texts REQUESTS.json answers each {"template",
// "messages"} of a list with the chat's text, or null for a template that is no known format;
// parity-chat tokens MODEL REQUESTS.json answers each {"messages"} with the model's tokens.
#include "core/io/files.h"
#include "models/language_model/language_model.h"
#include "tests/parity/commands.h"

namespace {

using namespace vyx;
using namespace vyx::models;

std::vector<ChatMessage> messages_of(const Json& request) {
  std::vector<ChatMessage> messages;
  for (const Json& message : request["messages"])
    messages.push_back({message["role"].get<std::string>(), message["content"].get<std::string>()});
  return messages;
}

Json texts(const test::Words& words) {
  Json answers = Json::array();
  for (const Json& request : parse_json(read_text_file(words.at(0)), words.at(0))) {
    const ChatFormat format = detect_chat_format(request["template"].get<std::string>());
    answers.push_back(format.empty() ? Json(nullptr)
                                     : Json(chat_text(format, messages_of(request))));
  }
  return answers;
}

Json tokens(const test::Words& words) {
  const LanguageModel model = LanguageModel::load(words.at(0));
  Json answers = Json::array();
  for (const Json& request : parse_json(read_text_file(words.at(1)), words.at(1)))
    answers.push_back(model.encode_chat(messages_of(request)));
  return answers;
}

}  // namespace

int main(int argc, char** argv) {
  return test::run_command({{"texts", texts}, {"tokens", tokens}}, argc, argv);
}
