"""Coursework: from the lessons to student versions, and from submissions to marks."""
