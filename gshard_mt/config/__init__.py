"""What a config file imports: `from gshard_mt.config import Config`."""
# SPDX-License-Identifier: Apache-2.0

from gshard_mt.config.records import Config

__all__ = ["Config"]
