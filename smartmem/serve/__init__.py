"""The workbench over the wire: a small REST service (rest.py) and an MCP server for one user (mcp.py).

Thin: each call is one call of the workbench. Neither works jobs; `smartmem work` does.
"""
