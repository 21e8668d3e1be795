"""Coursework: student versions out of the lessons, and marks out of what is handed in.

python -m minit2i exercises             a learner's working folder
python -m minit2i check NOTEBOOK        the state of every exercise of a notebook
python -m minit2i release               an nbgrader course folder with the student versions
python -m minit2i grade SUBMISSIONS     marks and feedback of a class

lesson      the exercises of a notebook, and its student version
submission  what was handed in, read with care and put back onto the lesson's frame
runner      runs a submission's cells in a process of their own, with limits
worker      that process: the learner's cells, then the judge, on trusted ground
confine     what a learner's code may not do there: write outside, read the solutions, ...
seal        the course and torch as they were before the learner's code ran
course      the nbgrader course folder: release, gradebook, feedback
grade       a class from submissions to marks
progress    which exercises of a folder are passed, as their saved outputs say
"""
