"""Modules most functions use, imported once so that a fork has them for nothing."""

# ruff: noqa: F401

import base64
import collections
import concurrent.futures
import csv
import dataclasses
import decimal
import email
import functools
import hashlib
import hmac
import html
import http.client
import io
import itertools
import logging
import pathlib
import random
import re
import secrets
import ssl
import statistics
import string
import subprocess
import tempfile
import textwrap
import typing
import urllib.parse
import urllib.request
