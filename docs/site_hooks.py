"""What the site has beyond `docs/`: a page for each module, from its docstrings, and files that pages link to.

Pages link to files of the repository, as a reader of the repository expects. On the site, a link to a module leads to
its page, and any other file is copied.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCE = REPOSITORY / "src"
LINK = re.compile(r"(?<=\]\()[^)#\s:]+(?=[)#])")


def described_modules() -> dict[str, str]:
    """Each module that has a docstring, and its first line."""
    modules = {}
    for path in sorted((SOURCE / "lfnet").rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        if text.startswith('"""'):
            modules[name] = text[3:].splitlines()[0].removesuffix('"""')
    return modules


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add a page for each module, and a list of them."""
    modules = described_modules()
    rows = "\n".join(f"| [{name}]({name}.md) | {text.replace('|', chr(92) + '|')} |" for name, text in modules.items())
    pages = {f"api/{name}.md": f"# {name}\n\n::: {name}\n" for name in modules}
    pages["api/index.md"] = f"# Modules\n\n| module | |\n| --- | --- |\n{rows}\n"
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    linked = (*REPOSITORY.glob("configs/*.toml"), *REPOSITORY.glob("examples/**/*.py"), *SOURCE.rglob("*.md"))
    for path in sorted(linked):
        name = path.relative_to(REPOSITORY).as_posix()
        files.append(File.generated(config, name, content=path.read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files of the repository into links of the site."""
    on_site = Path(page.file.src_uri).parent
    in_repository = REPOSITORY / (on_site if page.file.src_uri.startswith("src/") else Path("docs") / on_site)

    def moved(link: re.Match[str]) -> str:
        target = Path(os.path.normpath(in_repository / link[0]))
        if not target.is_file():
            return link[0]
        if target.suffix == ".py" and target.is_relative_to(SOURCE):
            place = Path("api", ".".join(target.relative_to(SOURCE).with_suffix("").parts) + ".md")
        elif target.is_relative_to(REPOSITORY / "docs"):
            place = target.relative_to(REPOSITORY / "docs")
        else:
            place = target.relative_to(REPOSITORY)
        return Path(os.path.relpath(place, on_site)).as_posix()

    return LINK.sub(moved, markdown)
