"""Tests of the HTTP API's own parts; over sockets it is tried in tests/surfaces."""
