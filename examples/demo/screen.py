"""What the demonstration shows: a few lines an act, readable on a narrow terminal, in a file, and by somebody who has never seen the guard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from openai import RateLimitError
from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

HEADERS = (
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "ratelimit",
    "x-gateway-guard-decision",
)


INDENT = (0, 0, 0, 3)


class Screen:
    """Prints acts. On a terminal with progress bars, elsewhere plain lines."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._act = 0

    def title(self, text: str, below: str) -> None:
        """The head of it all."""
        self.console.print(Panel(f"[bold]{text}[/]\n{below}", expand=False, border_style="cyan"))

    def act(self, text: str, about: str) -> None:
        """Begin an act."""
        self._act += 1
        self.console.print(f"\n[bold cyan]{self._act}. {text}[/]")
        self.console.print(Padding(f"[dim]{about}[/]", INDENT, expand=False))

    def say(self, text: str) -> None:
        """One line of outcome."""
        self.console.print(Padding(text, INDENT, expand=False))

    def verdict(self, *, good: bool, text: str) -> None:
        """The line that the act was for."""
        line = Table.grid(padding=(0, 1))
        line.add_row(f"[bold {'green' if good else 'red'}]{'✓' if good else '✗'}[/]", text)
        self.console.print(Padding(line, INDENT, expand=False))

    @contextmanager
    def progress(self, total: int) -> Iterator[Callable[[], None]]:
        """A bar while requests go out; nothing where there is no terminal."""
        columns = (TextColumn("  "), BarColumn(bar_width=40), MofNCompleteColumn(), TextColumn("requests"))
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            task = progress.add_task("", total=total)
            yield lambda: progress.advance(task)

    def refusal(self, error: RateLimitError) -> None:
        """A 429 as the client sees it."""
        table = Table.grid(padding=(0, 2))
        table.add_row("[bold]status[/]", str(error.status_code))
        table.add_row("[bold]message[/]", str((error.body or {}).get("message", "")) if isinstance(error.body, dict) else str(error.body))
        for name in HEADERS:
            if name in error.response.headers:
                table.add_row(name, error.response.headers[name])
        panel = Panel(table, title="openai.RateLimitError", title_align="left", expand=False, border_style="yellow")
        self.console.print(Padding(panel, INDENT, expand=False))

    def table(self, heads: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
        """Figures."""
        table = Table(box=None, padding=(0, 1), header_style="bold")
        for number, head in enumerate(heads):
            table.add_column(head, justify="right" if number else "left", no_wrap=True)
        for row in rows:
            table.add_row(*map(str, row))
        self.console.print(Padding(table, (0, 0, 0, 1), expand=False))
