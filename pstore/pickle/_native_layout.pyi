# The native side of sharing layouts: its interface is the reference's.

from ._layout import clear_attributes as clear_attributes
from ._layout import has_held_dict as has_held_dict
from ._layout import new_instance as new_instance
from ._layout import set_class as set_class
from ._layout import share_layout as share_layout
