"""The built-in methods. Importing one registers it; every method is named here and nowhere else, in one line."""

from composer.methods import cat as cat
from composer.methods import clora as clora
from composer.methods import cmlora as cmlora
from composer.methods import composite as composite
from composer.methods import dare as dare
from composer.methods import dare_ties as dare_ties
from composer.methods import freefuse as freefuse
from composer.methods import klora as klora
from composer.methods import knots as knots
from composer.methods import lego as lego
from composer.methods import lora_composer as lora_composer
from composer.methods import lora_soups as lora_soups
from composer.methods import loratorio as loratorio
from composer.methods import magnitude as magnitude
from composer.methods import merge as merge
from composer.methods import multlfg as multlfg
from composer.methods import nplora as nplora
from composer.methods import opcm as opcm
from composer.methods import regional as regional
from composer.methods import svd as svd
from composer.methods import switch as switch
from composer.methods import ties as ties
from composer.methods import tsv as tsv
from composer.methods import w_composite as w_composite
from composer.methods import w_switch as w_switch
from composer.methods import ziplora as ziplora
