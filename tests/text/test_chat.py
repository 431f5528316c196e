"""Chat templates."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ovgen.errors import RequestError, TokenizerError
from ovgen.text import ChatTemplate, find_chat_template
from tests.shared_data import SHARED, needs_shared
from tests.text import toys

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "chat_templates.json").read_text(encoding="utf-8"))
HELLO = [{"role": "user", "content": "Hello"}]
TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message.role not in ["system", "user", "assistant"] %}
        {{- raise_exception("no role " + message.role) }}
    {%- endif -%}
<{{ message.role }}>{{ message.content | trim }}</{{ message.role }}>
{% endfor %}
{% if add_generation_prompt %}
<assistant>
{%- endif %}
"""


def render(source: str, messages: Any = HELLO, **variables: Any) -> str:
    return ChatTemplate(source, {"bos_token": "<s>"}).render(messages, **variables)


def test_a_conversation() -> None:
    messages = [{"role": "system", "content": "Be brief. "}, *HELLO]
    expected = "<s><system>Be brief.</system>\n<user>Hello</user>\n<assistant>"
    assert render(TEMPLATE, messages) == expected
    assert render(TEMPLATE, messages, add_generation_prompt=False) == expected.removesuffix("<assistant>")


@needs_shared
@pytest.mark.parametrize("case", GOLDEN["cases"])
@pytest.mark.parametrize("name", GOLDEN["expected"])
def test_real_templates_render_as_with_transformers(name: str, case: str) -> None:
    source = (SHARED / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")
    template = ChatTemplate(source, GOLDEN["special_tokens"])
    asked, expected = GOLDEN["cases"][case], GOLDEN["expected"][name][case]
    if "error" in expected:
        with pytest.raises(RequestError) as caught:
            template.render(asked["messages"], **asked["variables"])
        assert expected["error"] in str(caught.value)
    else:
        assert template.render(asked["messages"], **asked["variables"]) == expected["text"]


FEATURES = {
    "blocks are trimmed": ("  {% if true %}\n  a\n  {% endif %}\nb", "  a\nb"),
    "loops can be left": ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
    "loops can be continued": (
        "{% for i in [0, 1, 2] %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}",
        "02",
    ),
    "JSON is not escaped": ("{{ messages | tojson }}", '[{"role": "user", "content": "Hello"}]'),
    "JSON as it is asked for": (
        "{{ {'b': '<é>', 'a': 1} | tojson(indent=1, sort_keys=true) }}",
        '{\n "a": 1,\n "b": "<é>"\n}',
    ),
    "generation is passed through": ("a{% generation %}{{ messages[0].content }}{% endgeneration %}b", "aHellob"),
    "generation is a scope": ("{% set x = 1 %}{% generation %}{% set x = 2 %}{% endgeneration %}{{ x }}", "1"),
    "namespaces": ("{% set ns = namespace(x=1) %}{% for m in messages %}{% set ns.x = 5 %}{% endfor %}{{ ns.x }}", "5"),
    "tools are none": ("{{ tools is none and documents is none }}", "True"),
    "what is missing is undefined": ("{{ custom_tools is defined }}{{ messages[0].name }}", "False"),
}


@pytest.mark.parametrize("feature", FEATURES)
def test_the_dialect(feature: str) -> None:
    source, expected = FEATURES[feature]
    assert render(source) == expected


def test_the_day() -> None:
    before = datetime.now().strftime("%d %b %Y")
    assert render('{{ strftime_now("%d %b %Y") }}') in (before, datetime.now().strftime("%d %b %Y"))


def test_variables_reach_the_template_and_outrank_special_tokens() -> None:
    tools = [{"name": "weather", "strict": True, "limit": 1.5, "tags": ("a", None)}]
    assert render("{{ tools | tojson }}", tools=tools) == json.dumps(tools)
    assert render("{{ bos_token }}") == "<s>"
    assert render("{{ bos_token }}", bos_token="<other>") == "<other>"


def test_contents_other_than_text() -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    assert render("{{ messages[0].content[0].text }}", parts) == "Hi"
    call = [{"role": "assistant", "tool_calls": [{"id": "1"}]}]
    assert render("{{ messages[0].tool_calls[0].id }}", call) == "1"
    result = [{"role": "tool", "content": {"content": "20 °C"}}]
    assert render("{{ messages[0].content.content }}", result) == "20 °C"


def test_the_template_cannot_change_the_messages() -> None:
    messages = [{"role": "user", "content": "Hello"}]
    for source in ("{{ messages.append(1) }}", "{{ messages[0].update({'role': 'x'}) }}"):
        with pytest.raises(RequestError, match="refuses these messages"):
            render(source, messages)
    assert messages == HELLO


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (TEMPLATE, "no role owner"),
        ("{{ messages[0].nothing.more }}", "has no attribute 'nothing'"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ raise_exception.__globals__.keys() }}", "unsafe"),
        ("{{ 1 // 0 }}", "zero"),
        ("{{ messages[0].content + 1 }}", "concatenate"),
        ("{% for i in range(999999999) %}{% endfor %}", "Range too big"),
    ],
)
def test_the_templates_own_message_is_told(source: str, told: str) -> None:
    with pytest.raises(RequestError, match=f"the chat template refuses these messages: .*{told}"):
        render(source, [{"role": "owner", "content": "Hello"}])


@pytest.mark.parametrize("source", ["{% if %}", "{{ x", "a\n{% endfor %}", "{{ x | no_such_filter }}"])
def test_a_syntax_error_is_the_models_and_told_when_chatting(source: str) -> None:
    template = ChatTemplate(source, {})
    with pytest.raises(TokenizerError, match=f"line {source.count(chr(10)) + 1} of the chat template"):
        template.render(HELLO)


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ([], r"messages must be a list .* got \[\]"),
        ("Hello", "messages must be a list"),
        ({"role": "user"}, "messages must be a list"),
        (None, "messages must be a list"),
        (["Hello"], r"messages\[0\] must be a mapping"),
        ([*HELLO, {"content": "Hello"}], r"messages\[1\] must have a role .* got None"),
        ([{"role": 5, "content": "Hello"}], "got 5"),
        ([{"role": "user"}], r"the content of messages\[0\] must be text.* got None"),
        ([{"role": "user", "content": 5}], "must be text"),
        ([{"role": "user", "content": "", "extra": [object()]}], r"messages\[0\]\['extra'\]\[0\] .* got a object"),
    ],
)
def test_what_is_wrong_with_messages_is_told(messages: Any, told: str) -> None:
    with pytest.raises(RequestError, match=told):
        render(TEMPLATE, messages)


def test_what_is_wrong_with_a_variable_is_told() -> None:
    with pytest.raises(RequestError, match=r"tools\[0\] must be plain data .* got a function"):
        render(TEMPLATE, tools=[render])


def in_jinja_file(folder: Path, template: str) -> None:
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def in_config(folder: Path, template: str) -> None:
    toys.write_json(folder, tokenizer_config={"chat_template": template})


def among_named_ones(folder: Path, template: str) -> None:
    named = [{"name": "rag", "template": "other"}, {"name": "default", "template": template}]
    toys.write_json(folder, tokenizer_config={"chat_template": named})


def in_json_file(folder: Path, template: str) -> None:
    toys.write_json(folder, chat_template={"chat_template": template})


def in_ir(folder: Path, template: str) -> None:
    toys.write_ir(folder, toys.byte_level(), template)


@pytest.mark.parametrize("write", [in_jinja_file, in_config, among_named_ones, in_json_file, in_ir])
def test_where_a_template_may_lie(tmp_path: Path, write: Callable[[Path, str], None]) -> None:
    assert find_chat_template(tmp_path) is None
    write(tmp_path, TEMPLATE + "é 你好 \"<&>'")
    assert find_chat_template(tmp_path) == TEMPLATE + "é 你好 \"<&>'"


def test_the_first_place_counts(tmp_path: Path) -> None:
    for write in (in_ir, in_json_file, in_config, in_jinja_file):
        write(tmp_path, write.__name__)
        assert find_chat_template(tmp_path) == write.__name__


def test_a_default_among_named_ones_in_the_ir(tmp_path: Path) -> None:
    xml = '<net><rt_info><chat_template><default value="{{ a }}"/></chat_template></rt_info></net>'
    (tmp_path / "openvino_tokenizer.xml").write_text(xml, encoding="utf-8")
    assert find_chat_template(tmp_path) == "{{ a }}"


def test_files_without_a_template(tmp_path: Path) -> None:
    toys.write_json(tmp_path, tokenizer_config={"chat_template": [{"name": "rag", "template": "x"}]}, chat_template={})
    toys.write_ir(tmp_path, toys.byte_level())
    assert find_chat_template(tmp_path) is None


@pytest.mark.parametrize(
    "name", ["chat_template.jinja", "tokenizer_config.json", "chat_template.json", "openvino_tokenizer.xml"]
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xff{")
    with pytest.raises(TokenizerError, match=name):
        find_chat_template(tmp_path)
