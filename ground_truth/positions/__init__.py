"""Compiled programs and gates whose circuits are known edge by edge at each position of their inputs."""
