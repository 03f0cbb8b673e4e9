# dseg's nodes for the car. NOT BUILT YET by anybody: a recipe to start from, not a tested image.
#
#   docker build --build-arg ROS_DISTRO=jazzy -t dseg .
#   docker run --rm --net=host --ipc=host -v "$PWD/run:/run/dseg:ro" dseg \
#     ros2 launch dseg_ros segment.launch.xml model:=/run/dseg/model.onnx image:=/front/image_raw
#
# --ipc=host shares the host's /dev/shm, through which large messages go; without it --shm-size=1g for nodes that send.
# One user for drivers and nodes: Fast DDS's shared memory is not open to others.
ARG ROS_DISTRO=jazzy
FROM ros:${ROS_DISTRO}-ros-base

SHELL ["/bin/bash", "-c"]
WORKDIR /ws
COPY . src/dseg_ros
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      python3-pip python3-venv ros-${ROS_DISTRO}-launch-xml ros-${ROS_DISTRO}-message-filters ros-${ROS_DISTRO}-tf2-msgs \
      ros-${ROS_DISTRO}-vision-msgs ros-${ROS_DISTRO}-diagnostic-msgs ros-${ROS_DISTRO}-nav-msgs ros-${ROS_DISTRO}-visualization-msgs \
      ros-${ROS_DISTRO}-ros2bag ros-${ROS_DISTRO}-rosbag2-storage-mcap ros-${ROS_DISTRO}-rmw-fastrtps-cpp \
 && rm -rf /var/lib/apt/lists/*
# A virtual environment that sees ROS's packages: pip may not write to Ubuntu 24.04's own. ROS's are built for numpy 1.
RUN python3 -m venv --system-site-packages /opt/dseg \
 && /opt/dseg/bin/pip install --no-cache-dir ./src/dseg_ros 'numpy<2'
# For this machine's kind of processor; on others they are compiled at the first sweep.
RUN /opt/dseg/bin/python -m dseg_core.loops_compiled
ENV PATH=/opt/dseg/bin:$PATH \
    PYTHONUNBUFFERED=1
# Where `ros2 launch` looks for the package, and its Python for the modules.
RUN site="$(/opt/dseg/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
 && printf '%s\n' '#!/bin/bash' 'set -e' "source /opt/ros/${ROS_DISTRO}/setup.bash" \
      'export AMENT_PREFIX_PATH=/opt/dseg:$AMENT_PREFIX_PATH' "export PYTHONPATH=$site:\$PYTHONPATH" 'exec "$@"' \
      > /entrypoint.sh && chmod +x /entrypoint.sh
ENTRYPOINT ["/entrypoint.sh"]
CMD ["ros2", "launch", "dseg_ros", "segment.launch.xml", "--show-args"]
