"""Words and links, checked by hand-computed cases and against loops."""

import random

import numpy as np
import pytest

from nmt.data.words import links_from_weights, merge_weights, piece_words, shift_weights, split_words


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("  ", []),
        ("A dog, running.", ["A", "dog,", "running."]),
        (" two\u00a0words\u3000here\t", ["two", "words", "here"]),
        ("我喜欢 Python3。", ["我", "喜", "欢", "Python3。"]),
        ("iPhone手机abc!", ["iPhone", "手", "机", "abc!"]),
        ("，「你好」", ["，「", "你", "好", "」"]),
        ("カタカナとﾊﾝ", list("カタカナとﾊﾝ")),
        ("データ・ベース", ["デ", "ー", "タ", "・", "ベ", "ー", "ス"]),
        ("ไทย ລາວ ខ្មែរ မြန်", [*"ไทย", *"ລາວ", *"ខ្មែរ", *"မြန်"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("𠮷野家 々〇", ["𠮷", "野", "家", "々", "〇"]),
        ("👩‍👩‍👧 ok", ["👩‍👩‍👧", "ok"]),
    ],
)
def test_split_words(line, words):
    assert split_words(line) == words


def test_piece_words_of_subwords():
    words, touched = piece_words([b" A", b" run", b"ning", b"", b" ", b" dog", b"."])
    assert words == ["A", "running", "dog."]
    assert touched == [[0], [1], [1], [], [], [2], [2]]


def test_piece_words_across_words_and_bytes():
    words, touched = piece_words([" 我喜".encode(), "欢".encode()[:1], "欢".encode()[1:], b" x y"])
    assert words == ["我", "喜", "欢", "x", "y"]
    assert touched == [[0, 1], [2], [2], [3, 4]]


def test_piece_words_of_bytes_that_are_no_text():
    broken = [b" ab", b"\xe6", b"\x88", b" c", b"\xff"]
    words, touched = piece_words(broken)
    assert touched == [[0], [0], [0], [1], [1]]
    assert words == split_words(b"".join(broken).decode("utf-8", errors="replace"))


def test_piece_words_of_nothing():
    assert piece_words([]) == ([], [])
    assert piece_words([b"", b" "]) == ([], [[], []])


def test_piece_words_agrees_with_split_words_however_a_line_is_cut():
    generator = random.Random(1)
    alphabet = "ab  .我喜é\u00a0ก😀"
    for _ in range(200):
        line = "".join(generator.choice(alphabet) for _ in range(generator.randrange(0, 20)))
        data = line.encode()
        cuts = sorted(generator.randrange(0, len(data) + 1) for _ in range(5))
        surfaces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        words, touched = piece_words(surfaces)
        assert words == split_words(line)
        assert sorted({word for each in touched for word in each}) == list(range(len(words)))


def test_merge_weights_by_hand():
    weights = np.array([[0.5, 0.3, 0.1], [0.1, 0.2, 0.4], [0.0, 0.2, 0.6]])
    # pieces 0 and 1 are the first target word; source piece 1 lies across both source words
    merged = merge_weights(weights, [[0], [0], [1]], [[0], [0, 1], [1]], 2, 2)
    np.testing.assert_allclose(merged, [[(0.65 + 0.2) / 2, (0.25 + 0.5) / 2], [0.1, 0.7]])


def test_merge_weights_against_loops():
    generator = np.random.default_rng(5)
    for _ in range(20):
        target = [sorted(set(generator.integers(0, 3, generator.integers(0, 3)).tolist())) for _ in range(7)]
        source = [sorted(set(generator.integers(0, 4, generator.integers(0, 3)).tolist())) for _ in range(5)]
        weights = generator.random((7, 5))
        expected = np.zeros((3, 4))
        for word in range(3):
            rows = [t for t in range(7) if word in target[t]]
            for t in rows:
                for s in range(5):
                    for other in source[s]:
                        expected[word, other] += weights[t, s] / len(source[s]) / len(rows)
        np.testing.assert_allclose(merge_weights(weights, target, source, 3, 4), expected, atol=1e-12)


def test_merge_weights_keeps_the_sum_of_a_row():
    weights = np.array([[0.2, 0.3, 0.5]], np.float32)
    merged = merge_weights(weights, [[0]], [[0, 1], [1], [2]], 1, 3)
    assert merged.sum() == pytest.approx(1)


def test_merge_weights_says_when_eos_was_kept():
    with pytest.raises(ValueError, match=r"\(3, 2\).*\(2, 2\)"):
        merge_weights(np.zeros((3, 2)), [[0], [1]], [[0], [1]], 2, 2)


def test_merge_weights_of_nothing():
    assert merge_weights(np.zeros((0, 2)), [], [[0], [0]], 0, 1).shape == (0, 1)
    assert merge_weights(np.zeros((2, 0)), [[0], [1]], [], 2, 0).shape == (2, 0)


def test_shift_takes_the_next_step():
    weights = np.array([[1.0, 2], [3, 4], [5, 6]])
    assert shift_weights(weights, 0).tolist() == weights.tolist()
    assert shift_weights(weights, 1).tolist() == [[3, 4], [5, 6], [0, 0]]
    assert shift_weights(weights, 5).tolist() == [[0, 0]] * 3
    assert weights[0, 0] == 1
    with pytest.raises(ValueError, match="shift=-1"):
        shift_weights(weights, -1)


def test_links():
    weights = np.array([[0.1, 0.7, 0.2], [0.4, 0.2, 0.4], [0, 0, 0], [0, 0, 1e-9]])
    assert links_from_weights(weights) == [(1, 0), (0, 1), (2, 3)]
    assert all(type(index) is int for link in links_from_weights(weights) for index in link)
    assert links_from_weights(np.zeros((3, 0))) == []
    assert links_from_weights(np.zeros((0, 3))) == []
