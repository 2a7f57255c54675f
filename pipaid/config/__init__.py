"""What people write for the daemon: its configuration and its declared strategies, or the full list of mistakes."""

from __future__ import annotations

from pipaid.config.declare import Declaration as Declaration
from pipaid.config.declare import load_declarations as load_declarations
from pipaid.config.layers import Config as Config
from pipaid.config.layers import Effective as Effective
from pipaid.config.layers import Examined as Examined
from pipaid.config.layers import examine as examine
from pipaid.config.layers import load_config as load_config
from pipaid.config.secret import Secret as Secret
from pipaid.config.secret import master_key as master_key
from pipaid.config.toml import Mistake as Mistake
from pipaid.config.toml import Mistaken as Mistaken
