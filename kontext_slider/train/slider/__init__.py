"""The slider of any Kontext model, trained with accelerate on a data set of edit sequences."""
