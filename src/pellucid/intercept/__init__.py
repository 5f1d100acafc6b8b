"""The seams of torch and of the system: named, reversible patches that know no mode."""
