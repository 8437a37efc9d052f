"""The documentation site: ``sphinx-build -W -c docs . site`` makes it from the pages as they are in the repository.

The source folder is the repository's root, so that links between README, docs and model cards hold on the site too.
"""

from casa import __version__

project, author, release, version = "casa", "The casa developers", __version__, __version__
copyright = "The casa developers, AGPL-3.0-or-later"
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["README.md", "CONTRIBUTING.md", "docs/**.md", "models/*.md"]
exclude_patterns = [".*", "casa", "casa-demo*", "configs", "datasets", "runs", "site", "tests", "tools"]
myst_heading_anchors = 4
highlight_language = "none"
smartquotes = False  # --fps is an option, and no dash
templates_path = ["_templates"]
html_theme = "furo"
html_title = f"casa {release}"
html_additional_pages = {"index": "redirect.html"}  # who opens the folder comes to docs/index.html
html_copy_source = False
