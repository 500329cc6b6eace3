import gzip
import logging
import os
import subprocess
import sys
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
import yaml

from nmt.component import build
from nmt.data.corpus import CorpusSource
from nmt.data.links import parse_links
from nmt.data.table import TextColumn
from nmt.data.text_corpus import TextCorpus, _cache_folder
from nmt.errors import ConfigError, DataError

CONFIGS = Path(__file__).parents[2] / "configs" / "data"
EN = ["a dog runs", "two cats", ""]
DE = ["ein Hund läuft", "zwei Katzen", "leer"]


@pytest.fixture
def load(tmp_path):
    """Load a corpus of the folder `tmp_path/corpus`, with a cache of this test's own."""

    def loaded(**options):
        defaults = {"name": "files", "source": "en", "target": "de", "train": "train", "root": str(tmp_path / "corpus")}
        return TextCorpus(**{**defaults, "cache": str(tmp_path / "cache"), **options}).load()

    return loaded


@pytest.fixture
def put(tmp_path):
    """Write a file of the corpus; a list is written line by line."""

    def written(name, content):
        path = tmp_path / "corpus" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = "".join(f"{line}\n" for line in content) if isinstance(content, list) else content
        content = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
        return path

    return written


@pytest.fixture
def pair(put):
    """Write both sides of a split."""

    def written(prefix="train", en=EN, de=DE, ending=""):
        put(f"{prefix}.en{ending}", en)
        put(f"{prefix}.de{ending}", de)

    return written


def reads(caplog):
    """Return how many splits were read from their source, not from the cache."""
    return sum(record.name == "nmt.data.table" and record.msg.startswith("reading") for record in caplog.records)


# --- plain text


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_text_is_read_in_both_directions(load, pair, ending):
    pair(ending=ending)
    corpus = load()
    assert (list(corpus.train.sources), list(corpus.train.targets)) == (EN, DE)
    assert (corpus.source_language, corpus.target_language, corpus.synthetic) == ("en", "de", False)
    assert corpus.train.links is None and corpus.valid is None and corpus.test is None and corpus.extra == {}
    turned = load(source="de", target="en")
    assert (list(turned.train.sources), list(turned.train.targets)) == (DE, EN)
    assert (turned.source_language, turned.target_language) == ("de", "en")
    assert turned.fingerprint != corpus.fingerprint


def test_splits_and_further_training_files(load, pair):
    pair()
    pair("more", ["x"], ["y"])
    pair("dev", ["u"], ["v"])
    corpus = load(extra_train=["more"], valid="dev", test="more")
    assert list(corpus.train.sources) == [*EN, "x"]
    assert list(corpus.valid.targets) == ["v"]
    assert list(corpus.test.sources) == ["x"]


def test_only_newline_ends_a_line_and_trailing_return_goes(load, put):
    put("train.en", "\ufeffone\x0b\x0c\x1c\x85\u2028two\r\nin\rside\nlast")
    put("train.de", "eins\r\nzwei\n drei ")
    train = load().train
    assert list(train.sources) == ["one\x0b\x0c\x1c\x85\u2028two", "in\rside", "last"]
    assert list(train.targets) == ["eins", "zwei", " drei "]


def test_paths_are_relative_to_the_working_directory_and_to_home(load, pair, tmp_path, monkeypatch):
    pair()
    monkeypatch.chdir(tmp_path)
    assert len(load(root=None, train="corpus/train").train) == 3
    assert len(load(root="corpus").train) == 3
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(load(root="~/corpus").train) == 3
    assert len(load(root="http://127.0.0.1:9", train=str(tmp_path / "corpus" / "train")).train) == 3


def test_languages_are_reduced_and_can_be_given(load, put):
    put("train.zh-CN", ["狗"])
    put("train.tok.de", ["Hund"])
    corpus = load(source="zh-CN", target="tok.de")
    assert (corpus.source_language, corpus.target_language) == ("zh", "de")
    corpus = load(source="zh-CN", target="tok.de", source_language="yue", target_language="gsw")
    assert (corpus.source_language, corpus.target_language) == ("zh", "gsw")


def test_columns_index_slice_and_iterate_like_lists(load, put):
    lines = [f"line {i} ä" for i in range(2500)]
    put("train.en", lines)
    put("train.de", lines)
    column = load().train.sources
    assert isinstance(column, TextColumn) and len(column) == 2500 and list(column) == lines
    assert column[0] == lines[0] and column[-1] == lines[-1] and column[1234] == lines[1234]
    for cut in (slice(5), slice(990, 1010), slice(-3, None), slice(7, 3), slice(0, 2500, 999), slice(None, None, -1)):
        assert list(column[cut]) == lines[cut]
    assert list(column[990:1010][3:5]) == lines[993:995]
    assert lines[17] in column
    with pytest.raises(IndexError):
        column[2500]


def test_digest_does_not_depend_on_chunks_but_on_line_ends():
    import pyarrow as pa

    whole = TextColumn(pa.chunked_array([["ab", "", "c"]]))
    cut = TextColumn(pa.chunked_array([["ab"], ["", "c"]]))
    other = TextColumn(pa.chunked_array([["a", "b", "c"]]))
    assert whole.digest() == cut.digest() == TextColumn(pa.chunked_array([["x", "ab", "", "c"]]))[1:].digest()
    assert whole.digest() != other.digest()


# --- one file of records


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_tsv_with_names_in_the_first_line(load, put, ending):
    put(f"train.tsv{ending}", "id\tde\ten\n1\tja\tyes\n2\tnein\tno\n")
    assert list(load().train.sources) == ["yes", "no"]
    assert list(load(format="tsv", source="de", target="en").train.sources) == ["ja", "nein"]


def test_tsv_with_numbers_and_other_names(load, put):
    put("train.tsv", "yes\tja\tCC-BY\nno\tnein\tCC-BY\n")
    corpus = load(columns={"en": 0, "de": 1, "fr": 2})
    assert list(corpus.train.sources) == ["yes", "no"]
    put("train.tsv", "English\tGerman\nyes\tja\n")
    assert list(load(columns={"en": "English", "de": "German"}, train="train.tsv").train.targets) == ["ja"]


def test_jsonl_with_columns_and_with_translation(load, put):
    put("train.jsonl", '{"en": "yes\\nsir", "de": "ja", "n": 1}\n\n{"translation": {"en": "no", "de": null}}\n')
    train = load(format="jsonl").train
    assert (list(train.sources), list(train.targets)) == (["yes sir", "no"], ["ja", ""])


def test_parquet(load, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "corpus").mkdir()
    table = pa.table({"translation": [{"de": "ja", "en": "yes"}, {"de": "nein", "en": "no"}]})
    pq.write_table(table, tmp_path / "corpus" / "train.parquet")
    assert list(load().train.targets) == ["ja", "nein"]
    (tmp_path / "corpus" / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"train\.parquet cannot be read as Parquet: "):
        load()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.tsv", "en\tde\nyes\n", r"train\.tsv:2: there is no column 'de' for de; .*suffixes to: en$"),
        ("train.tsv", "a\tb\nyes\tja\n", r"train\.tsv:2: there is no column 'de' for de; .*suffixes to: a, b$"),
        (
            "train.jsonl",
            '{"en": "yes", "de": "ja"}\n{"en": 1\n',
            r"train\.jsonl:2: not JSON \(.*one JSON object a line",
        ),
        ("train.jsonl", "[1]\n", r"train\.jsonl:1: a JSON list; accepted is one JSON object a line"),
        ("train.jsonl", '{"en": 1, "de": "ja"}\n', r"train\.jsonl:1: column 'en' holds int; accepted is text"),
        ("train.jsonl", '{"en": "\\ud800", "de": "ja"}\n', r"train\.jsonl:1: column 'en' holds half a surrogate pair"),
    ],
)
def test_bad_records_are_named_with_their_line(load, put, name, content, message):
    put(name, content)
    with pytest.raises(DataError, match=message):
        load()


# --- gold links


def test_links_are_read_and_turned_with_the_direction(load, pair, put):
    pair()
    put("train.align", ["0-0 1?1 2-2", "0-0 1-1", ""])
    gold = parse_links("0-0 1?1 2-2", where="")
    assert load().train.links[0] == gold
    put("train.de", ["ein brauner Hund läuft", *DE[1:]])
    put("train.align", ["0-0 1?2 2-3", "0-0 1-1", ""])
    gold = parse_links("0-0 1?2 2-3", where="")
    assert list(load().train.links)[0] == gold
    turned = load(source="de", target="en", align_source="en").train
    assert turned.links[0] == gold.flipped() and turned.links[-2].sure == {(0, 0), (1, 1)}
    assert [links.possible for links in turned.links[1:]] == [{(0, 0), (1, 1)}, set()]
    put("train.align", ["0-0 2?1 3-2", "0-0 1-1", ""])
    assert load(align_source="de").train.links[0] == gold
    assert load(source="de", target="en").train.links[0] == gold.flipped()


def test_links_of_the_wrong_side_or_line_are_refused(load, pair, put):
    pair()
    put("train.align", ["0-0", "2-0", ""])
    with pytest.raises(
        DataError, match=r"train\.align:2: link 2-0 is outside sentences of 2 and 2 words; .*align_source"
    ):
        load()
    with pytest.raises(DataError, match=r"train\.align:2: link 2-0 is outside sentences of 2 and 2 words"):
        load(align_source="de")
    put("train.align", ["0-0", "x", ""])
    with pytest.raises(DataError, match=r"train\.align:2: 'x' is not a link"):
        load()
    put("train.align", ["0-0", "0-0"])
    with pytest.raises(DataError, match=r"train\.de and .*train\.en has 3 lines and .*train\.align has 2 lines"):
        load()


def test_links_count_characters_of_unspaced_scripts(load, put):
    put("train.zh", ["他跑"])
    put("train.en", ["he runs"])
    put("train.align.gz", ["0-0 1-1"])
    assert load(source="zh", target="en").train.links[0].sure == {(0, 0), (1, 1)}


def test_links_of_only_a_part_of_training_are_left_out(load, pair, put):
    pair()
    pair("more")
    put("more.align", ["0-0", "", ""])
    corpus = load(extra_train=["more"], test="more")
    assert corpus.train.links is None and corpus.test.links[0].sure == {(0, 0)}


# --- the cache


def test_an_unchanged_source_is_not_read_again(load, pair, caplog):
    caplog.set_level(logging.INFO)
    pair()
    first = load()
    assert reads(caplog) == 1
    again = load()
    turned = load(source="de", target="en")
    assert reads(caplog) == 1
    assert again.fingerprint == first.fingerprint and list(turned.train.sources) == DE


def test_a_changed_source_is_noticed(load, pair, put, caplog):
    caplog.set_level(logging.INFO)
    pair()
    before = load()
    os.utime(put("train.en", ["a cat runs", *EN[1:]]), ns=(1, 1))
    after = load()
    assert reads(caplog) == 2
    assert after.train.sources[0] == "a cat runs" and after.fingerprint != before.fingerprint


def test_a_damaged_cache_is_written_anew(load, pair, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    pair()
    before = load()
    (table,) = (tmp_path / "cache").glob("*.arrow")
    content = table.read_bytes()
    # another file in its place, since the first is still mapped
    table.unlink()
    table.write_bytes(content[: len(content) // 2])
    after = load()
    assert reads(caplog) == 2 and after.fingerprint == before.fingerprint and list(before.train.sources) == EN
    # nothing is left of the writing
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.is_file()] == [table.name]
    assert not list((tmp_path / "cache").glob(".new-*"))


def test_a_corpus_of_many_blocks_is_written_in_order(load, put, monkeypatch):
    monkeypatch.setattr("nmt.data.table._BLOCK", 7)
    lines = [f"line {i}" for i in range(30)]
    put("train.en", lines)
    put("train.de", lines[::-1])
    train = load().train
    assert list(train.sources) == lines and list(train.targets) == lines[::-1]


def test_files_are_read_without_the_hub_s_library(pair, tmp_path):
    pair()
    code = (
        "import sys; from nmt.data import TextCorpus\n"
        f"TextCorpus(name='x', source='en', target='de', train='train', root={str(tmp_path / 'corpus')!r},"
        f" cache={str(tmp_path / 'cache')!r}).load()\n"
        "print('datasets' in sys.modules)"
    )
    root = CONFIGS.parents[1]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert run.stdout == "False\n"


def test_the_fingerprint_is_of_the_text_not_of_the_place(load, pair, put):
    pair()
    pair("sub/other", ending=".gz")
    assert load().fingerprint == load(train="sub/other").fingerprint
    assert load().fingerprint != load(test="sub/other").fingerprint
    assert load().fingerprint != load(target_language="nl").fingerprint
    put("train.de", [*DE[:2], "anders"])
    assert load().fingerprint != load(train="sub/other").fingerprint


def test_a_cache_that_cannot_be_written_is_named(load, pair, tmp_path):
    pair()
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be cached in .*file: .*; data\.cache=FOLDER names another"):
        load(cache=str(tmp_path / "file"))


def test_nothing_is_shown(load, pair, capfd):
    pair()
    load()
    assert capfd.readouterr() == ("", "")


# --- what is wrong with files


def test_sides_of_unequal_length(load, pair):
    pair(en=EN[:2])
    with pytest.raises(DataError, match=r"train\.de has 3 lines and .*train\.en has 2 lines; line i of one"):
        load()
    pair(en=[*EN, "x", "y"])
    with pytest.raises(DataError, match=r"train\.de has 3 lines and .*train\.en has 5 lines"):
        load()


def test_bytes_that_are_not_utf8(load, pair, put):
    pair()
    put("train.de.gz", b"wrong file")
    put("train.de", "ein Hund läuft\nKäse\n\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"train\.de:1: byte 11 is 0xe4, not UTF-8; accepted is UTF-8 text"):
        load()


def test_a_damaged_gzip_file(load, pair, tmp_path):
    pair(ending=".gz")
    file = tmp_path / "corpus" / "train.de.gz"
    file.write_bytes(file.read_bytes()[:-12])
    with pytest.raises(DataError, match=r"train\.de\.gz is a damaged gzip file: Compressed file ended"):
        load()


@pytest.mark.parametrize("lines", [[], ["", " "]])
def test_an_empty_corpus(load, pair, lines):
    pair(en=lines, de=lines)
    with pytest.raises(DataError, match=r"train\.de and .*train\.en: there is no sentence pair; at least one"):
        load()


def test_missing_files_name_what_is_there(load, pair):
    pair()
    with pytest.raises(
        DataError, match=r"^data\.valid=dev: there is no dev\.de and dev\.en, .* which has train\.de, train"
    ):
        load(valid="dev")
    with pytest.raises(DataError, match=r"no train\.en and train\.fr, or train\.tsv.* which has train\.de, train\.en$"):
        load(target="fr")
    with pytest.raises(DataError, match=r"^data\.extra_train=more: there is no more\.de and more\.en"):
        load(extra_train=["more"])
    with pytest.raises(DataError, match=r"^data\.train=train: there is no train\.jsonl \(\.gz or not\) in "):
        load(format="jsonl")
    with pytest.raises(DataError, match=r"^data\.train=no/train: .*/no, which is not a folder"):
        load(train="no/train")


def test_a_missing_folder_says_what_would_do(load, tmp_path):
    with pytest.raises(DataError) as error:
        load(test="test")
    assert f"data.root={tmp_path / 'corpus'} is not a folder" in str(error.value)
    assert str(error.value).endswith("data.root=FOLDER with train.en, train.de, test.en, test.de (.gz or not)")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": None}, r"data\.train is not given; it must be PREFIX"),
        ({"source": None}, r"data\.source is not given; it must be a file suffix"),
        ({"target": "en"}, r"data\.source and data\.target are both en; they must be different"),
        ({"align_source": "fr"}, r"data\.align_source=fr is not accepted; one of: en, de"),
        ({"extra_train": "more"}, r"data\.extra_train='more' is not accepted; it must be a list"),
        ({"sentence_separator": "a b"}, r"data\.sentence_separator='a b' is not accepted; it must be one word"),
        ({"columns": ["en"]}, r"data\.columns=\['en'\] is not accepted; it must map suffixes"),
        ({"columns": {"en": None}}, r"data\.columns=.* is not accepted; it must map suffixes"),
    ],
)
def test_options_that_are_not_accepted(load, options, message):
    with pytest.raises(ConfigError, match=message):
        load(**options)


# --- http(s)


class Site(BaseHTTPRequestHandler):
    """Serves `server.files`, with ETags where `server.tags` is set and times where `server.times` is."""

    def do_GET(self):  # noqa: N802 (the name that http.server calls)
        server = self.server
        content = server.files.get(self.path)
        tag = f'"{hash(content)}"'
        status = server.status or (404 if content is None else 200)
        if status == 200 and server.tags and self.headers["If-None-Match"] == tag:
            status = 304
        server.answers.append((self.path, status))
        self.send_response(status)
        if status == 200:
            self.send_header("Content-Type", server.kind)
            self.send_header("Content-Length", str(len(content) + server.missing))
            if server.tags:
                self.send_header("ETag", tag)
            else:
                self.send_header("Last-Modified", formatdate(0, usegmt=True))
        self.end_headers()
        if status == 200:
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def site():
    """A server on this machine; `site.files` maps paths to bytes."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    state = {"files": {}, "answers": [], "tags": True, "status": None, "kind": "application/octet-stream", "missing": 0}
    vars(server).update(state)
    server.root = f"http://127.0.0.1:{server.server_port}/raw"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def publish(site, prefix="train", en=EN, de=DE):
    for suffix, lines in (("en", en), ("de", de)):
        site.files[f"/raw/{prefix}.{suffix}"] = "".join(f"{line}\n" for line in lines).encode()


def downloads(site):
    return [path for path, status in site.answers if status == 200]


def test_an_address_is_read_like_a_folder(load, pair, site):
    publish(site)
    site.files["/raw/train.align"] = b"0-0\n\n\n"
    site.files["/raw/dev.en.gz"] = gzip.compress(b"yes\n")
    site.files["/raw/dev.de.gz"] = gzip.compress(b"ja\n")
    site.files["/raw/test.tsv"] = b"en\tde\nno\tnein\n"
    corpus = load(root=site.root, valid="dev", test="test")
    pair()
    assert list(corpus.train.sources) == list(load().train.sources)
    assert corpus.train.links[0].sure == {(0, 0)}
    assert list(corpus.valid.targets) == ["ja"] and list(corpus.test.targets) == ["nein"]
    assert len(load(root=None, train=f"{site.root}/train").train) == 3


def test_an_unchanged_address_is_not_downloaded_again_and_a_changed_one_is(load, site, caplog):
    caplog.set_level(logging.INFO)
    publish(site)
    load(root=site.root + "/")
    assert sorted(downloads(site)) == ["/raw/train.de", "/raw/train.en"]
    load(root=site.root)
    assert len(downloads(site)) == 2 and reads(caplog) == 1
    publish(site, en=["a cat runs", *EN[1:]])
    assert load(root=site.root).train.sources[0] == "a cat runs"
    assert len(downloads(site)) == 3 and reads(caplog) == 2


def test_an_address_that_cannot_tell_whether_it_changed_is_compared(load, site, caplog):
    caplog.set_level(logging.INFO)
    site.tags = False
    publish(site)
    load(root=site.root)
    load(root=site.root)
    assert len(downloads(site)) == 4 and reads(caplog) == 1
    publish(site, en=["a cat runs", *EN[1:]])
    assert load(root=site.root).train.sources[0] == "a cat runs"


def test_without_a_network_the_copy_is_used_and_the_log_says_so(load, site, caplog):
    publish(site)
    site.files["/raw/dev.en.gz"] = gzip.compress(b"yes\n")
    site.files["/raw/dev.de.gz"] = gzip.compress(b"ja\n")
    before = load(root=site.root, valid="dev")
    site.status = 503
    site.answers.clear()
    after = load(root=site.root, valid="dev")
    assert after.fingerprint == before.fingerprint
    assert len(site.answers) == 1, "one failure is enough to stop asking"
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings and "train.de cannot be reached (HTTP status 503); its copy of " in warnings[0]


def test_an_address_that_cannot_be_reached_says_which_folder_would_do(load, site):
    site.status = 500
    message = (
        r"/raw/train\.de cannot be reached \(HTTP status 500\).*data\.root=FOLDER with train\.en, train\.de \(\.gz"
    )
    with pytest.raises(DataError, match=message):
        load(root=site.root)
    with pytest.raises(
        DataError, match=r"^http://127\.0\.0\.1:9/train\.de cannot be reached \(.*data\.root=FOLDER with"
    ):
        load(root="http://127.0.0.1:9")
    with pytest.raises(DataError, match=r"^http://no.host:1x/train\.de cannot be reached \("):
        load(root="http://no host:1x")


def test_a_file_that_has_gone_is_not_taken_from_its_copy(load, site):
    publish(site)
    load(root=site.root)
    del site.files["/raw/train.de"]
    with pytest.raises(DataError, match=r"^data\.train=train: there is no train\.de and train\.en"):
        load(root=site.root)
    site.status = 503
    with pytest.raises(DataError, match=r"^data\.train=train: there is no train\.de and train\.en"):
        load(root=site.root)


def test_an_address_without_the_files_names_them(load, site):
    publish(site)
    message = r"^data\.test=test: there is no test\.de and test\.en, or test\.tsv, .* in http://127.*/raw$"
    with pytest.raises(DataError, match=message):
        load(root=site.root, test="test")
    publish(site, "page")
    site.kind = "text/html; charset=utf-8"
    with pytest.raises(DataError, match=r"^data\.train=page: there is no page\.de and page\.en"):
        load(root=site.root, train="page")


def test_a_download_that_breaks_off_is_not_used(load, site, tmp_path):
    publish(site)
    site.missing = 5
    with pytest.raises(DataError, match=r"train\.de cannot be reached \(the connection ended after \d+ of \d+ bytes\)"):
        load(root=site.root)
    assert list((tmp_path / "cache" / "downloads").iterdir()) == []
    site.missing = 0
    assert len(load(root=site.root).train) == 3


# --- the hub


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that has one dataset, a real one in a folder of this machine; `hub.error` is what asking for it raises."""
    datasets = pytest.importorskip("datasets")
    import huggingface_hub

    state = SimpleNamespace(sha="c0ffee", error=None, loads=[])
    library = datasets.load_dataset

    def dataset_info(self, name, *, revision, timeout):
        if state.error:
            raise state.error
        return SimpleNamespace(sha=state.sha)

    def load_dataset(path, *, revision, **options):
        state.loads.append((path, revision, options))
        return library(str(tmp_path / "hub" / path), cache_dir=str(tmp_path / "hub-cache"), **options)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return state


@pytest.fixture
def dataset(tmp_path):
    """Write a dataset with the folders of the hub's Parquet copies."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for split, count in (("train", 3), ("validation", 2)):
        folder = tmp_path / "hub" / "owner" / "name" / "de-en" / split
        folder.mkdir(parents=True)
        rows = [{"de": DE[i], "en": EN[i]} for i in range(count)]
        pq.write_table(pa.table({"translation": rows}), folder / "0000.parquet")


OPTIONS = {"root": "hub:owner/name", "subset": "{source}-{target}", "valid": "validation"}


def test_a_hub_dataset_is_read_in_both_directions(load, hub, dataset, caplog):
    caplog.set_level(logging.INFO)
    corpus = load(**OPTIONS)
    assert (list(corpus.train.sources), list(corpus.valid.targets)) == (EN, DE[:2])
    assert hub.loads[0] == ("owner/name", "c0ffee", {"split": "train", "name": "de-en"})
    assert hub.loads[1] == ("owner/name", "c0ffee", {"split": "train", "data_dir": "de-en"})
    assert list(load(**OPTIONS, source="de", target="en").train.sources) == DE
    assert reads(caplog) == 2


def test_a_hub_dataset_is_read_again_when_its_commit_changes(load, hub, dataset, caplog):
    caplog.set_level(logging.INFO)
    load(**OPTIONS)
    hub.sha = "decaf"
    load(**OPTIONS)
    assert reads(caplog) == 4
    hub.error = OSError("no route")
    assert list(load(**OPTIONS).train.sources) == EN
    assert reads(caplog) == 4
    assert "the hub cannot be reached (no route); owner/name@main is used as it was read before" in caplog.text


def test_a_hub_that_cannot_be_reached_says_which_folder_would_do(load, hub):
    hub.error = OSError("no route")
    message = (
        r"^data\.root=hub:owner/name cannot be reached \(no route\) .*data\.root=FOLDER with train\.en, train\.de, val"
    )
    with pytest.raises(DataError, match=message):
        load(**OPTIONS)


def test_a_split_or_subset_that_the_dataset_has_not(load, hub, dataset):
    with pytest.raises(
        DataError, match=r"^hub:owner/name \(dev\) cannot be read \(.*Unknown split \"dev\".*FOLDER with"
    ):
        load(**{**OPTIONS, "valid": "dev"})
    with pytest.raises(DataError, match=r"^hub:owner/name \(train\) cannot be read \(.*en-fr.*FOLDER with"):
        load(**{**OPTIONS, "target": "fr"})
    with pytest.raises(
        DataError, match=r"^hub:owner/name \(train\), row 1: there is no column 'French' for fr; .*: de, en$"
    ):
        load(**{**OPTIONS, "subset": "de-en", "target": "fr", "columns": {"fr": "French"}})


# --- configurations


def test_the_class_is_imported_without_the_libraries_that_it_needs_to_load():
    code = "import sys, nmt.data.text_corpus; print({'datasets', 'pyarrow', 'huggingface_hub'} & set(sys.modules))"
    root = CONFIGS.parents[1]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert run.stdout == "set()\n"


def text_configs():
    nodes = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(CONFIGS.glob("*.yaml"))}
    return {name: node for name, node in nodes.items() if node.get("_target_") == "nmt.data.TextCorpus"}


def test_configurations_have_the_same_keys():
    configs = text_configs()
    names = {"files", "iwslt14_de_en", "iwslt15_en_vi", "multi30k", "opus100", "tatoeba_zh_en", "wmt14_en_de"}
    assert set(configs) == names
    assert all(list(node) == list(configs["files"]) for node in configs.values())
    assert all(node["name"] == name for name, node in configs.items())


@pytest.mark.parametrize("name", text_configs())
def test_configurations_are_accepted(name):
    node = text_configs()[name] | {"_target_": "nmt.data.text_corpus.TextCorpus"}
    required = {"source": "en", "target": "de", "train": "train"}
    node |= {key: value for key, value in required.items() if node[key] is None}
    assert isinstance(build(node, CorpusSource, "data"), TextCorpus)


def test_a_configuration_reads_a_folder_with_its_own_file_names(load, pair):
    node = text_configs()["multi30k"]
    for prefix in (node["train"], node["valid"], node["test"]):
        pair(prefix, ending=".gz")
    options = {key: value for key, value in node.items() if key not in ("_target_", "root", "cache")}
    corpus = load(**options)
    assert (corpus.name, len(corpus.train), len(corpus.valid), len(corpus.test)) == ("multi30k", 3, 3, 3)


# --- real corpora


def test_multi30k_in_any_direction(load, shared_data):
    options = {"root": str(shared_data / "multi30k"), "valid": "val", "test": "test_2016_flickr"}
    corpus = load(**options)
    assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == (29000, 1014, 1000)
    turned = load(**options, source="de", target="en")
    assert turned.test.sources[-1] == corpus.test.targets[-1] and turned.test.targets[0] == corpus.test.sources[0]
    assert load(**options, source="fr", target="cs").source_language == "fr"


def test_chinese_with_further_training_files(load, shared_data):
    options = {
        "root": str(shared_data / "tatoeba-zh-en"),
        "source": "zh",
        "target": "en",
        "extra_train": ["train-extra"],
    }
    corpus = load(**options, valid="dev", test="test")
    assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == (21732 + 3170, 1000, 2000)


def test_gold_links_of_real_text_fit_only_their_own_direction(load, shared_data, tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name, original in (("test.de.gz", "test.de.gz"), ("test.en.gz", "test.en.gz"), ("test.align", "gold.align")):
        (folder / name).symlink_to(shared_data / "align-de-en" / original)
    test = load(train="test", source="de", target="en").train
    assert sum(len(links.sure) for links in test.links) == 1232
    with pytest.raises(DataError, match=r"test\.align:\d+: link .* data\.align_source=SUFFIX"):
        load(train="test")
    assert load(train="test", align_source="de").train.links[0] == test.links[0].flipped()


def test_the_cache_lies_where_that_of_datasets_does(monkeypatch, tmp_path):
    monkeypatch.delenv("HF_DATASETS_CACHE", raising=False)
    assert _cache_folder(None).parts[-2:] == ("datasets", "nmt")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    assert _cache_folder(None) == tmp_path / "nmt"
    assert _cache_folder(str(tmp_path / "own")) == tmp_path / "own"
