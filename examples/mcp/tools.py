"""An MCP server with one tool."""

import os

from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

server = MCPServer("tools")
# HAProxy says which hosts are served: HOSTS.
anybody = TransportSecuritySettings(enable_dns_rebinding_protection=False)
app = server.streamable_http_app(transport_security=anybody)


@server.tool()
def replica() -> str:
    """Return the name of the replica that has been asked."""
    return os.uname().nodename
