#include "models/tokenizer/chat_template.h"

#include "tests/test_support.h"

using namespace vyx::models;
using Kind = TemplatePart::Kind;
using Parts = std::vector<TemplatePart>;

TEST_CASE("[models.chat_template] literals join the text, other summands are values") {
  CHECK(template_parts("{{ 'a' + m.role ~ \"b\" }}c") ==
        Parts{{Kind::text, "a"}, {Kind::value, "m [ \"role\" ]"}, {Kind::text, "bc"}});
  CHECK(template_parts("x{# {{ no }} #}y") == Parts{{Kind::text, "xy"}});
  CHECK(template_parts("{{ '\\n\\'}}' }}") == Parts{{Kind::text, "\n'}}"}});
  CHECK(template_parts("{{ a['+'] != b }}") == Parts{{Kind::value, "a [ \"+\" ] != b"}});
}

TEST_CASE("[models.chat_template] the messages' variable has one name") {
  CHECK(template_parts("{%for m in messages%}{{m['role']}}{%endfor%}") ==
        template_parts("{% for message in messages %}{{ message.role }}{% endfor %}"));
}

TEST_CASE("[models.chat_template] white space goes as Hugging Face's settings of Jinja have it") {
  const auto text = [](std::string_view jinja) {
    const auto parts = template_parts(jinja);
    std::string all;
    for (const TemplatePart& part : *parts) all += part.kind == Kind::text ? part.spelling : "|";
    return all;
  };
  // What Jinja 3.1 gives with trim_blocks and lstrip_blocks, tags for "|".
  CHECK(text("a\n  {% x %}\n  b\n") == "a\n|  b");
  CHECK(text("a  {% x %}  b") == "a  |  b");
  CHECK(text("  {% x %} {% y %}\n\nb") == "| |\nb");
  CHECK(text("a \n {%- x -%} \n b") == "a|b");
  CHECK(text("a \n {{- x -}} \n b") == "a|b");
  CHECK(text(" {{ x }}\nb") == " |\nb");
  CHECK(text(" {%+ x %}b") == " |b");
  CHECK(text("a\n\n") == "a\n");
}

TEST_CASE("[models.chat_template] what does not lex has no parts") {
  for (const char* jinja : {"{{ 'a }}", "{% x", "{{ }}", "{{ 'a' + }}", "{{ '\\q' }}"}) {
    CAPTURE(jinja);
    CHECK_FALSE(template_parts(jinja));
  }
}
