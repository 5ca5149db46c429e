"""The worker that times zennit on a GPU: relevance of 50 stamps by alpha 2, beta 1, on CAP, in float32."""

import torch
from interleave import serve
from pytorch_cuda import REPEATS, several
from zennit_lrp import Cap, import_zennit, relevance

if __name__ == "__main__":
    torch.set_default_device("cuda")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)
    version = import_zennit()
    run = relevance(Cap().eval().to(memory_format=torch.channels_last))
    serve(f"zennit {version}, PyTorch {torch.__version__}", several(run), 0, REPEATS)
