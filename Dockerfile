# The app on the pocket model, on the CPU:
#   docker build -t kontext-slider . && docker run --rm -p 7860:7860 kontext-slider
FROM python:3.12-slim

RUN useradd --create-home --uid 1000 user && install -d -o user -g user /home/user/app
USER user
WORKDIR /home/user/app
ENV PATH=/home/user/.local/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/home/user/.cache/huggingface

# Requirements first: they change seldom, so this layer is kept when only the code changes.
COPY --chown=user requirements.txt ./
RUN pip install --no-cache-dir --user --extra-index-url https://download.pytorch.org/whl/cpu -r requirements.txt
COPY --chown=user . .

EXPOSE 7860
CMD ["python", "app.py", "--host", "0.0.0.0", "--port", "7860"]
