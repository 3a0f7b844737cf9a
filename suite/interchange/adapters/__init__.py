"""Adapters to released tools: ``circuitmeter validate --external NAME`` runs the tool itself on our models.

A tool is imported when its adapter is used, and no earlier; nothing here installs or copies one.
"""

from __future__ import annotations

TOOLS = {
    "auto-circuit": "auto_circuit:AutoCircuit",
    "eap-ig": "eap_ig:EapIg",
    "gim-explain": "gim_explain:GimExplain",
    "transformer-lens": "transformer_lens:AttributionPatching",
}
"""Name on the command line -> file and class in this folder."""
