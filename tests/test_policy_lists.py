"""The editable lists: what is shipped holds, and every mistake is told with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway_guard.errors import PolicyError
from gateway_guard.fingerprint.lists import ElicitFamily, Lists
from gateway_guard.policy.lists import load_lists

POLICIES = Path(__file__).parent.parent / "policies"
FAMILY = "families:\n  tea:\n    bit: 2\n    needs: 1\n    cues:\n      what: [tea]\n"


def load(folder: Path, *texts: str) -> Lists:
    paths = [folder / f"{n}.yaml" for n in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text, "utf-8")
    return load_lists(paths)


def test_files_add_up(tmp_path: Path) -> None:
    lists = load(tmp_path, "prompts: [You are A., You are B.]\nja4: X-JA4\n", f"prompts: [You are B., You are C.]\nblocks: [env]\n{FAMILY}")
    assert lists == Lists(prompts=("You are A.", "You are B.", "You are C."), blocks=("env",), families=(ElicitFamily("tea", 4, 1, (("tea",),)),), ja4="x-ja4")


def test_an_empty_list_of_files_is_an_empty_list() -> None:
    assert load_lists([]) == Lists()


def test_what_is_shipped_holds() -> None:
    lists = load_lists([POLICIES / "harness.yaml", POLICIES / "elicits.yaml"])
    assert all((lists.prompts, lists.blocks, lists.tools, lists.proxy_headers, lists.ja4))
    assert [family.bit for family in lists.families] == [1 << n for n in range(len(lists.families))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("prompt: [x]", "0.yaml:1: `prompt` is unknown; a file of lists is a mapping of prompts, blocks, tools, proxy_headers, families, ja4"),
        ("- x", "0.yaml:1: a file of lists is a mapping of prompts"),
        ("", "0.yaml:1: a file of lists is a mapping of prompts"),
        ("tools: [a]\ntools: [b]", "0.yaml:2: `tools` stands here a second time"),
        ("\ntools: a", "0.yaml:2: `tools` must be a list of texts, not empty"),
        ("tools: []", "0.yaml:1: `tools` must be a list of texts, not empty"),
        ("tools:\n  - a\n  - 5", "0.yaml:3: `tools` must hold texts; put what looks like something else in quotes"),
        ("tools:\n  - {a: b}", "0.yaml:2: `tools` must hold texts"),
        ("tools:\n  - a\n  - true", "0.yaml:3: `tools` must hold texts"),
        ("tools: ['17']", "0.yaml:1: `tools` holds a text without letters"),
        ("ja4: [x]", "0.yaml:1: `ja4` must hold texts"),
        ("families: [tea]", "0.yaml:1: `families` must be a mapping, not empty"),
        ("families: {}", "0.yaml:1: `families` must be a mapping, not empty"),
        (FAMILY.replace("bit: 2", "bit: 63"), "0.yaml:3: `tea.bit` must be a whole number from 0 to 62"),
        (FAMILY.replace("bit: 2", "bit: two"), "0.yaml:3: `tea.bit` must be a whole number"),
        (FAMILY.replace("bit: 2", "bit: true"), "0.yaml:3: `tea.bit` must be a whole number"),
        (FAMILY.replace("needs: 1", "needs: 2"), "0.yaml:4: `tea.needs` must be a whole number from 1 to 1"),
        (FAMILY.replace("    needs: 1\n", ""), "0.yaml:2: `tea` lacks needs"),
        (FAMILY.replace("needs", "need"), "0.yaml:4: `tea.need` is unknown; a family has bit, needs, cues"),
        (FAMILY.replace("what: [tea]", "what: tea"), "0.yaml:6: `tea.what` must be a list of texts"),
        (FAMILY.replace("\n      what: [tea]", " {}"), "0.yaml:5: `tea.cues` must be a mapping, not empty"),
        (FAMILY + "  cup:\n    bit: 2\n    needs: 1\n    cues: {a: [cup]}\n", "0.yaml:8: `cup`: bit 2 or the name is taken by another family"),
        ("tools: [a", "a bracket is not closed"),
        ("tools: [a]\n\tx: y", "0.yaml:2: not YAML"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(PolicyError) as refused:
        load(tmp_path, text)
    assert expected in str(refused.value)
    assert str(refused.value).startswith(str(tmp_path))


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(PolicyError) as refused:
        load(tmp_path, "tools: a\nblock: [b]\n", "tools: []\n")
    assert [problem.removeprefix(str(tmp_path)).split(" ")[0] for problem in refused.value.problems] == ["/0.yaml:1:", "/0.yaml:2:", "/1.yaml:1:"]


def test_a_family_stands_in_one_file_only(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"1\.yaml:3: `tea`: bit 5 or the name is taken"):
        load(tmp_path, FAMILY, FAMILY.replace("bit: 2", "bit: 5"))


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"none\.yaml: No such file"):
        load_lists([tmp_path / "none.yaml"])


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "0.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PolicyError, match=r"0\.yaml: is not UTF-8 text"):
        load_lists([tmp_path / "0.yaml"])


def test_no_object_is_made_of_a_tag(tmp_path: Path) -> None:
    """The file is composed, never constructed: a tag that would run code is a mistake and no more."""
    with pytest.raises(PolicyError, match=r"the tag .* is not used here"):
        load(tmp_path, "tools: [!!python/object/apply:os.system ['true']]")
