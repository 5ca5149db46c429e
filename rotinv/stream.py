"""`python -m rotinv.stream`: score a stream of alerts (Kafka), and write pieces of a catalogue."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rotinv import cli
from rotinv.alerts.stamp import first_of
from rotinv.catalogue.scorer import Scorer, Threshold
from rotinv.deploy import stream_config
from rotinv.deploy.kafka import Consumer, Producer
from rotinv.deploy.messages import Decoder
from rotinv.deploy.pieces import Pieces
from rotinv.deploy.schemas import Schemas
from rotinv.deploy.stream_config import StreamConfig
from rotinv.deploy.stream_metrics import StreamMetrics
from rotinv.deploy.streaming import Stream
from rotinv.nn.devices import get_kernels
from rotinv.runs import calibrated
from rotinv.runs.model import open_models
from rotinv.system.errors import UserError
from rotinv.system.files import read_errors
from rotinv.system.signals import stop_requested


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(argv)
    config = stream_config.read(options.config)
    models = open_models(options.runs)
    threshold = Threshold.at(options.runs, models, options.at_fpr)
    calibrator = calibrated.find(options.runs, models) if options.calibrated else None
    scorer = Scorer(get_kernels(options.device, options.threads), models, threshold, calibrator)
    decoder = _decoder(config)
    pieces = Pieces(config.output.folder, f".{config.output.format}")
    metrics = StreamMetrics(config.metrics.every, config.metrics.file or None)
    with stop_requested() as stopped:
        consumer = Consumer(config, decoder, pieces, options.until_end)
        try:
            _run(Stream(scorer, consumer, _producer(config, stopped), pieces, metrics), stopped)
        finally:
            consumer.close()
    cli.warn(*first_of(consumer.problems))
    cli.note(f"{pieces.folder}: {metrics.rate:,.0f} alerts/s from the start to the end")
    return 0


def _run(stream: Stream, stopped: Callable[[], bool]) -> None:
    for line in stream.run(stopped):
        cli.note(line)


def _producer(config: StreamConfig, stopped: Callable[[], bool]) -> Producer | None:
    topic = config.output.topic
    return Producer(config.kafka, topic, stopped) if topic else None


def _decoder(config: StreamConfig) -> Decoder:
    """The reader of messages, with the schemas that it needs."""
    given = config.input
    schemas, bare = Schemas(given.schemas or ".", config.profiles), None
    if given.schema:
        with read_errors(given.schema):
            bare = Path(given.schema).read_bytes()
        try:
            schemas.of_text(bare)
        except LookupError as error:
            raise UserError(f"{given.schema}: {error}") from error
    return Decoder(given.framing, schemas, bare)


def _parser() -> cli.Parser:
    parser = cli.Parser(
        "stream",
        "Score a stream of alerts with trained networks, and write a catalogue piece by piece. Killed at any "
        "moment it goes on where it was: nothing is lost, and nothing twice in the pieces. Ctrl-C ends it.",
    )
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="folders of trained runs; several vote (CAPE)")
    text = "what to read and write (docs/deploy/streams.md; extra 'stream')"
    add("--config", type=Path, required=True, metavar="FILE.toml", help=text)
    add("--until-end", action="store_true", help="stop when all messages that are there have been read")
    cli.add_at_fpr(parser)
    text = "add the column calibrated: p(candidate) by the calibrator of rotinv evaluate --calibrate"
    add("--calibrated", action="store_true", help=text)
    cli.add_device(parser)
    return parser


if __name__ == "__main__":
    cli.run("stream", main)
