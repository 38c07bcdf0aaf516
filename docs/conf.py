"""How the documentation is built: Sphinx, MyST and Furo; warnings are errors."""

project = "stageflow"
author = "stageflow contributors"
project_copyright = "2026, stageflow contributors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["deflist"]
html_theme = "furo"
exclude_patterns = ["_build", "performance-notes.md"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
nitpicky = False
