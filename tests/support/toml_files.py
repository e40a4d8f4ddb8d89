"""Settings as TOML."""

from __future__ import annotations

from pathlib import Path


def toml_value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(toml_value, value))}]"
    return f'"{value}"' if isinstance(value, (str, Path)) else repr(value)


def write_toml(path: Path, tables: dict[str, dict[str, object]]) -> Path:
    lines = []
    for name, table in tables.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {toml_value(value)}" for key, value in table.items() if not isinstance(value, dict)]
        for key, inner in table.items():
            if isinstance(inner, dict):
                lines.append(f"[{name}.{key}]")
                lines += [f"{inner_key} = {toml_value(value)}" for inner_key, value in inner.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
