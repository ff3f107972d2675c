"""Declaration of code execution."""

from sinas.resources.base import Resource
from sinas.resources.code.tools import CodeTools

RESOURCE = Resource(name="code", tools=CodeTools)
