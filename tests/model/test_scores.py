import pytest
import torch
from composed import CONFIGS, options
from numpy_model import SCORES, array
from omegaconf import OmegaConf
from reference import attention
from toys import close, random, randomised

from nmt.component import build
from nmt.errors import ConfigError
from nmt.model import arithmetic
from nmt.model.attention import AdditiveScore, CosineScore, DotScore, LocationScore, PoolingScore, Score
from nmt.model.attention.base import masked_softmax
from nmt.model.encoder import Encoded, mask_from_lengths

B, Q, S, H, M, A = 3, 2, 5, 11, 7, 13
LENGTHS = (5, 1, 3)  # EOS counted


def make_score(name, **overrides):
    """The score that `configs/attention/score/<name>.yaml` describes."""
    node = OmegaConf.to_container(OmegaConf.load(CONFIGS / f"attention/score/{name}.yaml"), resolve=False)
    node = {key: A if str(value).startswith("${") else value for key, value in node.items()} | overrides
    try:
        made = build(node, Score, "attention.score", query_size=H, key_size=M)
    except ConfigError:
        made = build(node, Score, "attention.score", query_size=M, key_size=M)
        made.query_size = M
    return randomised(made.double())


def make_source(lengths=LENGTHS, size=M):
    """Annotations of sentences of these lengths, with junk where padding is."""
    lengths = torch.tensor(lengths)
    states = random(len(lengths), S, size, seed=1).requires_grad_()
    return Encoded(states, mask_from_lengths(lengths, S), lengths - 1, (), None)


def make_query(score):
    return random(B, Q, getattr(score, "query_size", H), seed=2).requires_grad_()


def assert_equal_to_reference(scores, score, query, source):
    for b, length in enumerate(LENGTHS):
        states = array(source.states[b, :length])
        for q in range(Q):
            expected = SCORES[type(score)](score, array(query[b, q]), states)
            assert array(scores[b, q, :length]) == close(expected)


CASES = [(name, {}) for name in options("attention/score")]
CASES += [("cosine", {"strength": 2.3}), ("cosine", {"strength": 1}), ("location", {"max_positions": 3})]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_scores_equal_the_papers(name, options, fast):
    score = make_score(name, **options)
    source, query = make_source(), make_query(score)
    with arithmetic(fast=fast):
        scores = score(query, score.prepare(source))
    assert scores.shape == (B, Q, S)
    assert_equal_to_reference(scores, score, query, source)


def test_concat_is_luongs_formula_with_the_matrix_whole():
    score = make_score("concat")
    source, query = make_source(), make_query(score)
    scores = score(query, score.prepare(source))
    whole = array(torch.cat([score.query.weight, score.key.weight], dim=1))
    expected = attention.concat(array(query[0, 1]), array(source.states[0]), whole, array(score.vector))
    assert array(scores[0, 1]) == close(expected)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("name", options("attention/score"))
def test_one_query_at_a_time_gives_the_same(name, fast):
    score = make_score(name)
    query = make_query(score)
    with arithmetic(fast=fast):
        keys = score.prepare(make_source())
        apart = [score(query[:, q : q + 1], keys) for q in range(Q)]
        assert array(torch.cat(apart, dim=1)) == close(score(query, keys))


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("name", options("attention/score"))
def test_keys_of_selected_sentences(name, fast):
    score = make_score(name)
    query, picked = make_query(score), torch.tensor([2, 0, 2, 1])
    with arithmetic(fast=fast):
        keys = score.prepare(make_source())
        assert array(score(query[picked], keys.select(picked))) == close(score(query, keys)[picked])


@pytest.mark.parametrize("name", options("attention/score"))
def test_gradients_of_fast_and_plain_arithmetic_agree(name):
    score = make_score(name)
    found = []
    for fast in (True, False):
        source, query = make_source(), make_query(score)
        score.zero_grad()
        with arithmetic(fast=fast):
            keys = score.prepare(source)
            scores = torch.cat([score(query[:, q : q + 1], keys) for q in range(Q)], dim=1)
        scores = torch.where(scores.isfinite(), scores, 0.0)
        if scores.requires_grad:
            (scores * random(B, Q, S, seed=4)).sum().backward()
        found.append([p.grad.clone() for p in score.parameters()] + [source.states.grad, query.grad])
    for fast, plain in zip(*found, strict=True):
        assert (fast is None and plain is None) or array(fast) == close(plain)


def test_positions_beyond_the_last_row_are_forbidden():
    score = LocationScore(H, max_positions=3).double()
    scores = score(random(B, Q, H), score.prepare(make_source()))
    assert torch.equal(scores.isinf(), (torch.arange(S) >= 3).expand(B, Q, S))


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("score=dot ", lambda: DotScore(H, M)),
        ("score=scaled_dot ", lambda: DotScore(H, M, scaled=True)),
        ("score=cosine ", lambda: CosineScore(H, M)),
    ],
)
def test_scores_without_a_matrix_need_equal_sizes(name, make):
    with pytest.raises(ConfigError, match=f"{name}.*one size.*hidden_size is 11 and the encoder gives 7"):
        make()


def _softmax_weights(score, seed):
    source, query = make_source(), random(B, Q, getattr(score, "query_size", H), seed=seed)
    scores = score(query, score.prepare(source))
    return scores, masked_softmax(scores, source.mask.unsqueeze(1))


def test_without_its_tanh_concat_does_not_look_at_the_query():
    score = make_score("concat_linear")
    (one, weights), (other, again) = (_softmax_weights(score, seed) for seed in (2, 5))
    assert (one - other).abs().min() > 0.001, "the scores are moved, all by the same"
    assert array(weights) == close(again)
    with_tanh = make_score("concat")
    assert (_softmax_weights(with_tanh, 2)[1] - _softmax_weights(with_tanh, 5)[1]).abs().max() > 0.01


def test_pooling_has_no_query():
    score = make_score("pooling")
    scores, _ = _softmax_weights(score, 2)
    assert torch.equal(scores, _softmax_weights(score, 5)[0])
    assert torch.equal(scores[:, 0], scores[:, 1]) and scores[0, 0].unique().numel() == S


def test_wrong_options_are_refused():
    with pytest.raises(ConfigError, match="strength=-1 is not accepted; it must be positive"):
        CosineScore(M, M, strength=-1)
    with pytest.raises(ConfigError, match="max_positions=0 is not accepted; it must be at least 1"):
        LocationScore(H, max_positions=0)
    with pytest.raises(ConfigError, match="attention_size=0 is not accepted; it must be at least 1"):
        AdditiveScore(H, M, attention_size=0)
    with pytest.raises(ConfigError, match="attention_size=0 is not accepted; it must be at least 1"):
        PoolingScore(M, attention_size=0)
