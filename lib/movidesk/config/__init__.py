"""movidesk.conf: reading it, its options, and the patterns that admins write."""

from movidesk.config.loader import DEFAULT_PATH, MAX_FILE, MAX_LINE, PATH_VARIABLE, Config, ConfigError, config_path, load

__all__ = ["DEFAULT_PATH", "MAX_FILE", "MAX_LINE", "PATH_VARIABLE", "Config", "ConfigError", "config_path", "load"]
