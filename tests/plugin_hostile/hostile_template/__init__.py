"""Templates for tests of what strategies may do to a daemon; they know nothing of pipaid but the sdk."""
