"""What type the value of each setting has. For type checkers alone: nothing uses this at run time.

Of an address, times, prefixes and names the value is '' where the setting has none.
"""

from __future__ import annotations

from typing import Literal, overload

from movidesk.config.options import Secret
from movidesk.config.pattern import Pattern


class Values:
    """The settings, by section and key (movidesk.config.options.OPTIONS)."""

    @overload
    def __getitem__(self, name: tuple[Literal["movidesk"], Literal["url", "token_file", "time_zone"]]
                    | tuple[Literal["pbx"], Literal["name", "report_transfer", "asterisk", "mask_numbers"]]
                    | tuple[Literal["journal"], Literal["path", "standby"]]
                    | tuple[Literal["fleet"], Literal["share", "ca_file"]]
                    | tuple[Literal["recordings"], Literal["link", "folder", "secret_file", "convert"]]
                    | tuple[Literal["numbers"], Literal["form", "country", "area_code"]]
                    | tuple[Literal["metrics"], Literal["textfile"]]
                    | tuple[Literal["made_calls"], Literal["auth", "user", "dial_prefix", "dial_suffix", "caller_id", "monitor",
                                                           "ami_user"]]
                    | tuple[Literal["panel"], Literal["password_file", "proxy_user_header"]]) -> str: ...

    @overload
    def __getitem__(self, name: tuple[Literal["movidesk"], Literal["requests_per_minute", "night_requests_per_minute"]]
                    | tuple[Literal["journal"], Literal["keep_days"]]
                    | tuple[Literal["fleet"], Literal["pbxs"]]
                    | tuple[Literal["reports"], Literal["answer_within"]]
                    | tuple[Literal["recordings"], Literal["valid_days", "keep_days"]]
                    | tuple[Literal["made_calls"], Literal["per_minute", "ring"]]) -> int: ...

    @overload
    def __getitem__(self, name: tuple[Literal["movidesk"], Literal["timeout"]]
                    | tuple[Literal["line"], Literal["ask_every", "ask_at_least_every"]]) -> float: ...

    @overload
    def __getitem__(self, name: tuple[Literal["movidesk"], Literal["token"]]
                    | tuple[Literal["recordings"], Literal["secret"]]
                    | tuple[Literal["fleet"], Literal["redis"]]
                    | tuple[Literal["made_calls"], Literal["password", "token", "ami_secret"]]
                    | tuple[Literal["metrics"], Literal["token"]]
                    | tuple[Literal["panel"], Literal["password"]]) -> Secret: ...

    @overload
    def __getitem__(self, name: tuple[Literal["pbx"], Literal["extension_pattern", "agent_channel"]]
                    | tuple[Literal["numbers"], Literal["internal"]]
                    | tuple[Literal["made_calls"], Literal["number_pattern"]]) -> Pattern: ...

    @overload
    def __getitem__(self, name: tuple[Literal["agid"], Literal["listen"]]
                    | tuple[Literal["made_calls"], Literal["ami"]]) -> tuple[str, int]: ...

    @overload
    def __getitem__(self, name: tuple[Literal["recordings"], Literal["publish"]]
                    | tuple[Literal["made_calls"], Literal["listen"]]
                    | tuple[Literal["metrics"], Literal["listen"]]
                    | tuple[Literal["panel"], Literal["listen"]]) -> tuple[str, int] | Literal[""]: ...

    @overload
    def __getitem__(self, name: tuple[Literal["pbx"], Literal["queue_names", "agent_names"]]) -> dict[str, str] | Literal[""]: ...

    @overload
    def __getitem__(self, name: tuple[Literal["movidesk"], Literal["night"]]) -> tuple[int, int] | Literal[""]: ...

    @overload
    def __getitem__(self, name: tuple[Literal["numbers"], Literal["prefixes", "anonymous"]]
                    | tuple[Literal["made_calls"], Literal["allow", "deny"]]
                    | tuple[Literal["panel"], Literal["proxies"]]) -> tuple[str, ...] | Literal[""]: ...

    @overload
    def __getitem__(self, name: tuple[str, str]) -> object: ...

    def __getitem__(self, name: tuple[str, str]) -> object:
        raise NotImplementedError
