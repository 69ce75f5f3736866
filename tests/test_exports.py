"""Exports of other programs: tables, WhatsApp's chats, the texts of imessage-exporter; what dates prove."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import jarvis_embed as je
from jarvis_embed.cli import app
from jarvis_embed.errors import SourceError
from jarvis_embed.messages import Conversation, Message
from jarvis_embed.sources.dates import Numbers, proven_order


def read(path: Path, **options: object) -> tuple[list[Conversation], dict[str, int]]:
    source = je.sources.open(path, **options)  # type: ignore[arg-type]
    return list(source.conversations()), dict(source.unreadable)


def said(path: Path, **options: object) -> list[tuple[str, str]]:
    conversations, _ = read(path, **options)
    return [(message.sender, message.text) for conversation in conversations for message in conversation.messages]


def times(path: Path, **options: object) -> list[str]:
    conversations, _ = read(path, **options)
    return [
        f"{datetime.fromtimestamp(message.sent_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
        for conversation in conversations
        for message in conversation.messages
    ]


def real_chats(number: int) -> Iterator[Conversation]:
    """Conversations of chitchat's training part, times cut to seconds as exports have them."""
    pytest.importorskip("chitchat_dataset")
    for conversation in je.sources.open("chitchat").conversations():
        if number and len(conversation.messages) > 5:
            number -= 1
            yield Conversation(
                conversation.key,
                [
                    Message(m.key, f"Person {m.sender[:4]}", m.sent_ms // 1000 * 1000, m.text.strip())
                    for m in conversation.messages
                ],
            )


def moments(messages: Iterable[Message]) -> Iterator[tuple[datetime, Message]]:
    yield from ((datetime.fromtimestamp(m.sent_ms / 1000, UTC), m) for m in messages)


class TestDateOrder:
    """What a file proves about its dates."""

    @pytest.mark.parametrize(
        ("dates", "order"),
        [
            ("13/06/23 14/06/23", "dmy"),
            ("06/13/23", "mdy"),
            ("2023-06-05", "ymd"),
            ("2023/13/05", None),
            ("05/06/23", None),
            ("05/06/23 06/06/23", None),
            ("30/01/2023 01/02/2023", "dmy"),
            ("05/01/23 03/02/23", "dmy"),  # read the other way, it would go from May back to March
            ("01/05/23 02/03/23", "mdy"),
            ("13/06/23 06/13/23", None),  # both cannot be, and neither is chosen
            ("31/02/23", None),
            ("05/06/23 04/06/23", "dmy"),  # a step back of a day happens, one of a month does not
        ],
    )
    def test_is_what_the_dates_leave(self, dates: str, order: str | None) -> None:
        assert proven_order(Numbers.of(date.replace("-", "/").split("/")) for date in dates.split()) == order

    def test_is_not_read_off_a_table_that_may_be_newest_first(self) -> None:
        newest_first = [Numbers.of(date.split("/")) for date in ("03/02/23", "05/01/23")]
        assert proven_order(newest_first) == "mdy"
        assert proven_order(newest_first, oldest_first=False) is None

    @given(
        st.lists(st.datetimes(datetime(2010, 1, 1), datetime(2035, 1, 1)), min_size=1), st.sampled_from(["dmy", "mdy"])
    )
    def test_is_never_wrong(self, days: list[datetime], order: str) -> None:
        shape = {"dmy": "%d/%m/%y", "mdy": "%m/%d/%y"}[order]
        proven = proven_order(Numbers.of(day.strftime(shape).split("/")) for day in sorted(days))
        assert proven in (order, None)


IOS = """\
[13/06/2023, 21:04:05] Trip: \u200eMessages and calls are end-to-end encrypted.
[13/06/2023, 21:04:05] Anna: lunch tomorrow?
at noon: the place
with the lentils
\u200e[13/06/2023, 21:05:00] Anna: \u200eimage omitted
[13/06/2023, 21:05:01] ~\u202fBen B.: sure \u200e<This message was edited>
[13/06/2023, 21:06:00] \u202a+49\u00a0151 23456789\u202c: me too
[13/06/2023, 21:07:00] Anna: \u200eThis message was deleted.
[13/06/2023, 21:08:00] Anna: look \u200e<attached: 00000012-PHOTO-2023.jpg>
"""

ANDROID = """\
6/13/23, 9:02\u202fPM - Messages and calls are end-to-end encrypted. No one outside of this chat can read them.
6/13/23, 9:03\u202fPM - Anna changed the subject from "Trip: May" to "Trip: June"
6/13/23, 9:04\u202fPM - Anna: lunch tomorrow?

at noon
6/13/23, 9:05\u202fPM - Ben: <Media omitted>
6/13/23, 9:05\u202fPM - Ben: IMG-20230613-WA0001.jpg (file attached)
the place
6/13/23, 9:06\u202fPM - Anna: You deleted this message
6/14/23, 12:01\u202fAM - Ben: good night <This message was edited>
6/14/23, 12:02\u202fAM - Anna: null
"""


class TestWhatsApp:
    """Both shapes of an exported chat."""

    def test_ios(self, tmp_path: Path) -> None:
        folder = tmp_path / "WhatsApp Chat - Trip"
        folder.mkdir()
        (folder / "_chat.txt").write_text(IOS, encoding="utf-8")
        (conversation,), left_out = read(folder)
        assert conversation.key == "Trip"
        assert said(folder) == [
            ("Anna", "lunch tomorrow?\nat noon: the place\nwith the lentils"),
            ("Ben B.", "sure"),
            ("+49\u00a0151 23456789", "me too"),
            ("Anna", "look"),
        ]
        assert left_out == {"notice or attachment of the app": 2, "deleted": 1}
        assert times(folder)[:2] == ["2023-06-13 21:04:05", "2023-06-13 21:05:01"]

    def test_android_with_a_clock_of_twelve_hours(self, tmp_path: Path) -> None:
        file = tmp_path / "WhatsApp Chat with Anna.txt"
        file.write_text(ANDROID, encoding="utf-8")
        (conversation,), left_out = read(file)
        assert conversation.key == "Anna"
        assert said(file) == [("Anna", "lunch tomorrow?\n\nat noon"), ("Ben", "the place"), ("Ben", "good night")]
        assert left_out == {"notice or attachment of the app": 3, "deleted": 2}
        assert times(file) == ["2023-06-13 21:04:00", "2023-06-13 21:05:00", "2023-06-14 00:01:00"]

    @pytest.mark.parametrize(
        "line",
        [
            "[13.06.23, 21:04:05] Anna: hey",
            "[13.6.2023 klo 21.04.05] Anna: hey",
            "20/6/2017 8:28 p.\u00a0m. - Anna: hey",
            "13.06.23, 21:04 - Anna: hey",
            "2023/06/13, 21:04 - Anna: hey",
            "[2023-06-13, 9:04:05 p.m.] Anna: hey",
        ],
    )
    def test_dates_of_other_languages(self, tmp_path: Path, line: str) -> None:
        file = tmp_path / "chat.txt"
        file.write_text(line, encoding="utf-8")
        assert said(file) == [("Anna", "hey")]
        assert times(file)[0][:7] in ("2023-06", "2017-06")

    def test_an_unproven_order_of_dates_is_refused_until_it_is_said(self, tmp_path: Path) -> None:
        file = tmp_path / "_chat.txt"
        file.write_text("[05/06/2023, 21:04:05] Anna: hey\n[06/06/2023, 21:04:05] Ben: hi\n")
        with pytest.raises(SourceError, match="--dates dmy"):
            read(file)
        assert times(file, dates="dmy")[0] == "2023-06-05 21:04:05"
        assert times(file, dates="mdy")[0] == "2023-05-06 21:04:05"

    def test_a_quoted_chat_makes_the_order_unproven_and_a_stated_order_leaves_it_out(self, tmp_path: Path) -> None:
        file = tmp_path / "_chat.txt"
        file.write_text(
            "[13/06/2023, 21:04:05] Anna: he wrote\n[06/13/2023, 09:00:00] Carl: hm\n[14/06/2023, 1:00:00] Ben: oh\n"
        )
        with pytest.raises(SourceError, match="--dates"):
            read(file)
        assert said(file, dates="dmy") == [("Anna", "he wrote"), ("Ben", "oh")]
        assert read(file, dates="dmy")[1] == {"no such date": 1}

    def test_the_owner_must_be_one_who_wrote(self, tmp_path: Path) -> None:
        file = tmp_path / "_chat.txt"
        file.write_text(IOS, encoding="utf-8")
        (conversation,), _ = read(file, me="Anna")
        assert [m.is_from_me for m in conversation.messages] == [True, False, False, True]
        with pytest.raises(SourceError, match="nobody .* is called anna.* there: Anna$"):
            read(file, me="anna")

    def test_times_are_those_of_the_zone_that_is_named(self, tmp_path: Path) -> None:
        file = tmp_path / "_chat.txt"
        file.write_text("[13/06/2023, 21:04:05] Anna: hey\n")
        assert times(file, zone="Europe/Berlin") == ["2023-06-13 19:04:05"]
        with pytest.raises(SourceError, match="no time zone"):
            read(file, zone="Mars/Olympus")

    @pytest.mark.parametrize(
        "shape", ["[%d/%m/%Y, %H:%M:%S] ", "[%m/%d/%y, %I:%M:%S\u202f%p] ", "%d.%m.%y, %H:%M:%S - "]
    )
    def test_real_chats_come_back_as_they_were(self, tmp_path: Path, shape: str) -> None:
        for number, chat in enumerate(real_chats(30)):
            file = tmp_path / f"{number}.txt"
            file.write_text(
                "".join(f"{time.strftime(shape)}{m.sender}: {m.text}\n" for time, m in moments(chat.messages))
            )
            (conversation,), left_out = read(file, dates="mdy" if "%m/%d" in shape else "dmy")
            assert [(m.sender, m.sent_ms, m.text) for m in conversation.messages] == [
                (m.sender, m.sent_ms, m.text) for m in sorted(chat.messages, key=lambda m: m.sent_ms)
            ]
            assert left_out == {}


EXPORTED = """\
May 17, 2022  5:29:42 PM (Read by you after 1 hour, 49 seconds)
Anna
lunch tomorrow?

at noon
Tapbacks:
Loved by Me

    May 17, 2022  6:00:00 PM
    Me
    what about one?
of course with lentils

May 17, 2022  5:30:00 PM
Me
sure
Sent with Confetti

May 17, 2022  5:31:00 PM Anna renamed the conversation to Lunch

May 17, 2022  5:32:00 PM
Anna
May 17, 2022  5:32:00 PM see you
Edited 5 seconds later: see you their
Edited 2 seconds later: see you there
at noon

May 17, 2022  5:33:00 PM
Me
/Users/me/Library/Messages/Attachments/ab/IMG_0001.heic

May 17, 2022  5:34:00 PM
Me
You deleted a message.

May 17, 2022  5:35:00 PM
Anna
This message was deleted from the conversation!
gone

May 17, 2022  6:00:00 PM
Me
what about one?
of course with lentils
This message responded to an earlier message.

"""


class TestIMessageExporter:
    """A folder of its text files."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "imessage_export"
        folder.mkdir()
        (folder / "Anna.txt").write_text(EXPORTED)
        (folder / "orphaned.txt").write_text("May 17, 2022  5:29:42 PM\nAnna\nwho is this?\n\n")
        return folder

    def test_what_people_wrote_and_nothing_else(self, folder: Path) -> None:
        (conversation,), left_out = read(folder)
        assert conversation.key == "Anna"
        assert [(m.sender, m.text, m.is_from_me) for m in conversation.messages] == [
            ("Anna", "lunch tomorrow?\n\nat noon", False),
            ("Me", "sure", True),
            ("Anna", "see you there\nat noon", False),
            ("Me", "what about one?\nof course with lentils", True),
        ]
        assert left_out == {
            "notice": 1,
            "attachment or app without text": 1,
            "unsent": 1,
            "deleted": 1,
            "in no conversation": 1,
        }

    def test_a_reply_knows_what_it_answers(self, folder: Path) -> None:
        ((*_, reply),) = (conversation.messages for conversation in read(folder)[0])
        assert reply.reply_to == read(folder)[0][0].messages[0].key

    def test_one_file_of_it(self, folder: Path) -> None:
        assert said(folder / "Anna.txt") == said(folder)

    def test_real_chats_come_back_as_they_were(self, tmp_path: Path) -> None:
        chats = list(real_chats(30))
        for chat in chats:
            (tmp_path / f"{chat.key}.txt").write_text(
                "".join(
                    f"{time:%b %d, %Y} {time.hour % 12 or 12:2}:{time:%M:%S %p}\n{m.sender}\n{m.text}\n\n"
                    for time, m in moments(chat.messages)
                )
            )
        conversations, left_out = read(tmp_path, me=chats[0].messages[0].sender)
        expected = {
            chat.key: [(m.sender, m.text) for m in sorted(chat.messages, key=lambda m: m.sent_ms)] for chat in chats
        }
        assert {c.key: [(m.sender, m.text) for m in c.messages] for c in conversations} == expected
        assert left_out == {}


class TestCsv:
    """Tables by their headings."""

    def test_headings_are_recognised_and_the_delimiter_found(self, tmp_path: Path) -> None:
        file = tmp_path / "messages.csv"
        for delimiter in ",;\t|":
            file.write_text(
                f"Date{delimiter}From{delimiter}Body\n"
                f'2023-06-13T21:04:05Z{delimiter}Anna{delimiter}"so; this, and ""that""\nand more"\n'
            )
            assert said(file) == [("Anna", 'so; this, and "that"\nand more')]
            assert times(file) == ["2023-06-13 21:04:05"]

    def test_who_sent_it_may_be_a_direction(self, tmp_path: Path) -> None:
        file = tmp_path / "sms.csv"
        file.write_text(
            "Chat Session,Message Date,Type,Sender Name,Text\n"
            "Anna,2023-06-13 21:04:05,Incoming,Anna,lunch?\n"
            "Anna,2023-06-13 21:05:05,Outgoing,,sure\n"
            "Anna,2023-06-13 21:06:05,Notification,,Anna left\n"
        )
        (conversation,), left_out = read(file)
        assert (conversation.key, left_out) == ("Anna", {"neither sent nor received": 1})
        assert [(m.sender, m.is_from_me) for m in conversation.messages] == [("Anna", False), ("me", True)]

    def test_a_column_of_types_that_says_nothing_about_direction_is_none(self, tmp_path: Path) -> None:
        file = tmp_path / "chat.csv"
        file.write_text("time,from,type,text\n1686690245,Anna,text,hey\n1686690246000,Ben,text,hi\n")
        assert said(file) == [("Anna", "hey"), ("Ben", "hi")]
        assert times(file) == ["2023-06-13 21:04:05", "2023-06-13 21:04:06"]

    def test_a_map_names_columns_and_joins_them(self, tmp_path: Path) -> None:
        file = tmp_path / "weird.csv"
        file.write_text("Tag;Uhr;Wer;Was\n13.06.2023;21:04;Anna;hey\n")
        with pytest.raises(SourceError, match="--map time=HEADING. Its headings: Tag, Uhr, Wer, Was"):
            read(file)
        columns = {"time": "Tag+Uhr", "sender": "Wer", "text": "Was"}
        assert said(file, columns=columns) == [("Anna", "hey")]
        assert times(file, columns=columns) == ["2023-06-13 21:04:00"]
        with pytest.raises(SourceError, match="no column 'Wenn'"):
            read(file, columns={"time": "Wenn"})
        with pytest.raises(SourceError, match="no field 'when'"):
            read(file, columns={"when": "Tag"})

    def test_an_unproven_order_of_dates_is_refused_until_it_is_said(self, tmp_path: Path) -> None:
        file = tmp_path / "messages.csv"
        file.write_text("date,from,text\n03/02/2023 10:00 PM,Anna,hey\n05/01/2023 9:00 AM,Ben,hi\n")
        with pytest.raises(SourceError, match="--dates"):
            read(file)
        assert times(file, dates="dmy") == ["2023-01-05 09:00:00", "2023-02-03 22:00:00"]

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
    def test_any_unicode_encoding(self, tmp_path: Path, encoding: str) -> None:
        file = tmp_path / "messages.csv"
        file.write_text("date,from,text\n2023-06-13,Änne,süß 🎉\n2023-06-14,Ben,oh\n", encoding=encoding)
        assert said(file) == [("Änne", "süß 🎉"), ("Ben", "oh")]

    def test_a_bad_row_is_counted_by_its_cause(self, tmp_path: Path) -> None:
        file = tmp_path / "messages.csv"
        file.write_bytes(
            b"date,from,text\n2023-06-13,Anna,hey\n2023-06-13,Anna,s\xfc\xdf\nyesterday,Anna,hey\n2023-06-13,,hey\n"
            b"2023-06-13,Anna, \n2023-06-13\n\n2023-06-13,Anna," + b"x" * 200_000 + b"\n2023-06-14,Ben,oh\n"
        )
        assert said(file) == [("Anna", "hey"), ("Ben", "oh")]
        assert read(file)[1] == {
            "not UTF-8": 1,
            "no usable time": 1,
            "no sender": 1,
            "empty text": 1,
            "too few columns": 1,
            "not CSV": 1,
        }

    def test_a_wrong_delimiter_is_explained_without_showing_a_message(self, tmp_path: Path) -> None:
        file = tmp_path / "messages.csv"
        file.write_text("2023-06-13^Anna^a very secret message of some length\n" * 3)
        with pytest.raises(SourceError, match="not one of headings") as caught:
            read(file, kind="csv")
        assert "secret" not in str(caught.value)

    def test_real_chats_come_back_as_they_were(self, tmp_path: Path) -> None:
        chats = list(real_chats(30))
        made = io.StringIO()
        writer = csv.writer(made)
        writer.writerow(["id", "timestamp", "chat", "sender", "message"])
        for chat in chats:
            writer.writerows([m.key, m.sent_ms, chat.key, m.sender, m.text] for m in chat.messages)
        (tmp_path / "all.csv").write_text(made.getvalue(), newline="")
        conversations, left_out = read(tmp_path / "all.csv")
        ordered = [Conversation(c.key, tuple(sorted(c.messages, key=lambda m: m.sent_ms))) for c in chats]
        assert conversations == ordered
        assert left_out == {}


class TestKinds:
    """A kind is told by the content; ``--as`` overrides."""

    @pytest.mark.parametrize(
        ("content", "kind"),
        [
            ('\n{"conversation": "a"}\n', "jsonl"),
            (IOS, "whatsapp"),
            (ANDROID, "whatsapp"),
            (EXPORTED, "imessage-exporter"),
            ("When;Sender;Message\n", None),
            ("Date;Sender;Message\n", "csv"),
            ("hello there, world\n", None),
            ("", None),
        ],
    )
    def test_by_content(self, tmp_path: Path, content: str, kind: str | None) -> None:
        file = tmp_path / "file.dat"
        file.write_text(content, encoding="utf-8")
        if kind is None:
            with pytest.raises(SourceError, match="--as"):
                je.sources.kind_of(file)
        else:
            assert je.sources.kind_of(file) == kind

    def test_what_is_packed_is_said_to_be(self, tmp_path: Path) -> None:
        (tmp_path / "WhatsApp Chat - Anna.zip").write_bytes(b"PK\x03\x04....")
        with pytest.raises(SourceError, match="Unpack"):
            je.sources.open(tmp_path / "WhatsApp Chat - Anna.zip")

    def test_a_folder_of_other_things_is_no_export(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("milk\n")
        (tmp_path / "loop.txt").symlink_to(tmp_path / "loop.txt")
        with pytest.raises(SourceError, match="--as"):
            je.sources.open(tmp_path)

    def test_an_option_without_a_use_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file.jsonl").write_text("{}")
        with pytest.raises(SourceError, match="--dates means nothing for a jsonl source"):
            je.sources.open(tmp_path / "file.jsonl", dates="dmy")


SECRET = "xylophonesecret"


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (f"2023-06-13,Anna,{SECRET}\n" * 3, ["--as", "csv"]),
        (f"Anna,{SECRET},12\n" * 3, ["--as", "csv", "--map", "text=Body"]),
        (f"date,from,text\n03/02/23,Anna,{SECRET}\n", []),
        (f"date,from,text\n{SECRET},Anna,{SECRET}\n2023-01-01,{SECRET}\n", []),
        (f"date,from,text\n2023-01-01,Anna,{SECRET}\n", ["--me", "Ben"]),
        (f"{SECRET}\n", ["--as", "whatsapp"]),
        (f"[05/06/23, 21:04:05] Anna: {SECRET}\n", []),
        (f"[13/06/23, 21:04:05] {SECRET}: {SECRET}\n[13/06/23, 21:04:05] Anna: hey\n", ["--me", "Ben"]),
        (f"May 17, 2022  5:29:42 PM\n{SECRET}\n{SECRET}\n", ["--me", "Ben"]),
        (f"{SECRET}\n", []),
    ],
)
def test_no_message_text_in_what_ingest_says(tmp_path: Path, content: str, options: list[str]) -> None:
    (tmp_path / "file.txt").write_text(content)
    result = CliRunner().invoke(app, ["ingest", str(tmp_path / "file.txt"), *options])
    assert isinstance(result.exception, SourceError)
    assert SECRET not in result.output + str(result.exception)


HOSTILE = st.one_of(
    st.binary(max_size=400),
    st.lists(
        st.sampled_from(
            [
                *IOS.splitlines(),
                *ANDROID.splitlines(),
                *EXPORTED.splitlines(),
                *("date,from,text", "2023-06-13,Anna,hey", '"', "\0", "\ud800", ": ", "\u200e" * 3),
                *("[99/99/9999, 99:99:99] a: b", "[١٣/٠٦/٢٠٢٣, ٢١:٠٤:٠٥] Anna: hey"),
            ]
        ),
        max_size=12,
    ).map(lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass")),
)


@settings(max_examples=400, deadline=None)
@example(b'"\x00\n\x01', "csv", "dmy")
@given(HOSTILE, st.sampled_from(["csv", "whatsapp", "imessage-exporter", None]), st.sampled_from(["dmy", None]))
def test_no_bytes_make_a_reader_raise_anything_but_its_own_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, kind: str | None, dates: str | None
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "file.txt"
    path.write_bytes(content)
    try:
        source = je.sources.open(path, kind=kind, dates=None if kind not in ("csv", "whatsapp") else dates)  # type: ignore[arg-type]
        for conversation in source.conversations():
            assert conversation.messages
            assert len({message.key for message in conversation.messages}) == len(conversation.messages)
    except SourceError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("kind", ["csv", "whatsapp", "imessage-exporter"])
def test_random_bytes_are_refused_or_counted(tmp_path: Path, kind: str) -> None:
    draw = random.Random(kind)
    for number in range(300):
        path = tmp_path / f"{number}.txt"
        path.write_bytes(draw.randbytes(draw.randint(0, 2000)))
        try:
            assert not read(path, kind=kind)[0]
        except SourceError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("csv", "date,from,text\n2023-06-13,Anna,hey\n2023-06-13,Anna,", "\n2023-06-14,Ben,oh\n"),
        (
            "whatsapp",
            "[13/06/2023, 1:00:00] Anna: hey\n[13/06/2023, 2:00:00] Anna: ",
            "\n[13/06/2023, 3:00:00] Ben: oh\n",
        ),
        (
            "imessage-exporter",
            "May 17, 2022  5:29:42 PM\nAnna\nhey\n\nMay 17, 2022  5:30:42 PM\nAnna\n",
            "\n\nMay 17, 2022  5:31:42 PM\nBen\noh\n\n",
        ),
    ],
)
def test_a_message_of_many_megabytes_is_counted(tmp_path: Path, kind: str, before: str, after: str) -> None:
    path = tmp_path / "file.txt"
    path.write_text(before + "x" * 20_000_000 + after)
    conversations, left_out = read(path, kind=kind)
    assert [m.text for m in conversations[0].messages] == ["hey", "oh"]
    assert list(left_out.values()) == [1]
